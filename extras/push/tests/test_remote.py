"""Clones that share a Git remote and a real S3-compatible server: what one ran, another doesn't."""

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
