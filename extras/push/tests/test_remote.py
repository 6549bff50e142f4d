"""Clones that share a Git remote and a real S3-compatible server: what one ran, another doesn't."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.pipeline.project import Project, free_port, ran

pytestmark = pytest.mark.pipeline

KEYS = {
    "AWS_ACCESS_KEY_ID": "reader",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a server with an empty bucket named "shared"."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    with (tmp_path / "server log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        address = f"http://127.0.0.1:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="shared")
        yield address
    finally:
        server.kill()
        server.wait()


def test_push_and_pull(project: Project, s3: str, tmp_path: Path) -> None:
    project.env.update(KEYS)
    project.dvc("remote", "add", "--force", "--default", "storage", "s3://shared/mnist-pipeline")
    project.dvc("remote", "modify", "storage", "endpointurl", s3)
    project.commit("a remote")
    git_remote = str(tmp_path / "a remote.git")
    project.run("git", "init", "--quiet", "--bare", "--initial-branch=main", git_remote)
    project.run("git", "remote", "add", "origin", git_remote)
    project.run("git", "push", "--quiet", "origin", "main")
    expected = project.outs()
    project.dvc("exp", "run", "--name", "other", "-S", "seed=1", "train")
    experiment = project.outs()
    project.run("git", "checkout", ".")
    project.dvc("checkout")
    assert project.outs() == expected
    project.dvc("exp", "push", "origin", "other")

    clone = Project(tmp_path / "a second clone")
    clone.env.update(KEYS)
    clone.run("git", "clone", "--quiet", git_remote, str(clone.folder), cwd="/")
    assert "other" in clone.dvc("exp", "list", "origin")
    clone.dvc("exp", "pull", "origin", "other")
    clone.dvc("exp", "apply", "other")
    assert clone.outs() == experiment
    clone.run("git", "checkout", "--quiet", ".")

    project.install()
    project.run("make", "push")
    clone.dvc("pull", "--run-cache")
    assert clone.outs() == expected
    output = clone.dvc("repro")
    assert ran(output) == []
    assert "up to date" in output

    output = clone.dvc("exp", "run", "--pull", "-S", "seed=1", "train")
    assert ran(output) == [], "the run cache has this experiment"
    assert clone.outs() == experiment


@pytest.fixture
def shared_folder(project: Project, tmp_path: Path) -> Path:
    """A folder that is the project's remote."""
    folder = tmp_path / "shared"
    folder.mkdir()
    project.dvc("remote", "add", "--force", "--local", "--default", "storage", str(folder))
    project.install()
    return folder


def test_a_remote_that_refuses_files(project: Project, shared_folder: Path) -> None:
    folders = [shared_folder / "files/md5" / f"{number:02x}" for number in range(256)]
    folders[0].parent.mkdir(parents=True)
    for in_the_way, number in ((folders, "[0-9]{2}"), ([shared_folder / "runs"], "4")):
        for path in in_the_way:
            path.symlink_to("nowhere")
        output = project.run("make", "push", status=2)
        error = f"^error: {number} files were not pushed, for the reasons above; once these are"
        assert re.search(error, output, re.M), output
        assert "Pushed" not in output
        assert "Traceback" not in output
        for path in in_the_way:
            path.unlink()
    assert re.fullmatch("Pushed [0-9]+ files of 4 runs\n", project.run("make", "push"))


def test_a_remote_that_is_no_folder(project: Project, shared_folder: Path) -> None:
    shared_folder.rmdir()
    shared_folder.touch()
    first, *_ = project.run("make", "push", status=2).splitlines()
    assert first.startswith("error: the remote takes no files (NotADirectoryError: ")


def test_runs_whose_outs_are_no_longer_in_the_cache(project: Project, shared_folder: Path) -> None:
    project.dvc("exp", "run", "--temp", "-S", "validation_fraction=0.2", "preprocess")
    project.dvc("gc", "--workspace", "--force")
    output = project.run("make", "push")
    assert "of these runs lack outs, which 'dvc gc' has removed from the cache" in output
    assert "in sync" in project.dvc("status", "--cloud")
