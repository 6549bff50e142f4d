"""On a real SLURM cluster of two nodes: one run on both, experiments as jobs, a requeued job."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.pipeline.project import BIN, Project

from . import slurm

pytestmark = pytest.mark.pipeline

README = Path(__file__).parents[1] / "README.md"
LAUNCHER = re.search(r"-S 'launcher=\"([^\"]+)\"'", README.read_text("utf-8"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment variables of a cluster's commands."""
    if not slurm.is_installed():
        pytest.skip("needs SLURM: slurmctld, slurmd and slurm-client")
    with ExitStack() as stack:
        try:
            variables = stack.enter_context(slurm.cluster(tmp_path / "cluster"))
        except TimeoutError as error:
            pytest.skip(f"SLURM does not start here: {error}")
        yield variables


def on_cluster(project: Project, variables: dict[str, str]) -> Project:
    """Let a project's commands see a cluster."""
    project.install()
    project.env |= variables
    return project


def wait_for_jobs(project: Project) -> None:
    """Wait until no job waits or runs."""
    deadline = time.monotonic() + 280
    while jobs := project.run("squeue", "--noheader"):
        assert time.monotonic() < deadline, jobs + log_of_jobs(project)
        time.sleep(0.5)


def log_of_jobs(project: Project) -> str:
    """What all jobs have printed."""
    paths = sorted((project.folder / ".dvc/tmp/jobs").glob("*.log"))
    return "".join(path.read_text() for path in paths)


def outs_of(project: Project, experiment: str) -> dict[str, bytes]:
    """The files of a finished experiment."""
    project.dvc("exp", "apply", experiment)
    return project.outs()


def test_without_slurm_one_line_says_so(project: Project, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(shutil.which("git") or "")
    path = f"{BIN}{os.pathsep}{tmp_path / 'bin'}"
    output = project.run("python", "extras/slurm/submit.py", status=1, PATH=path)
    assert output == "error: sbatch: not found; run this where SLURM's commands are installed\n"


def test_one_run_over_two_nodes(
    two_processes: Project, cluster: dict[str, str], tmp_path: Path
) -> None:
    project = on_cluster(two_processes.copy(tmp_path / "two nodes"), cluster)
    assert LAUNCHER
    line = LAUNCHER[1].replace("--nproc-per-node 4", "--nproc-per-node 1")
    project.dvc("exp", "run", "--queue", "--name", "two-nodes", "-S", f'launcher="{line}"')
    output = project.run("make", "submit", "OPTIONS=--nodes=2 --ntasks-per-node=1")
    assert re.search(r"^two-nodes: job \d+$", output, re.MULTILINE)
    wait_for_jobs(project)
    log = log_of_jobs(project)
    assert log.count("Epoch [5/5]: train loss") == 2, f"one process per node speaks: {log}"
    expected = two_processes.outs()  # of its train stage
    found = outs_of(project, "two-nodes")
    for name in ("models/model.safetensors", "metrics/train.json", "metrics/history.csv"):
        assert found[name] == expected[name]


def test_a_requeued_job_resumes(
    digits_run: Project, cluster: dict[str, str], tmp_path: Path
) -> None:
    alone = digits_run.copy(tmp_path / "alone")
    alone.dvc("exp", "run", "-S", "epochs=60")

    project = on_cluster(digits_run.copy(tmp_path / "my digits"), cluster)
    project.dvc("exp", "run", "--queue", "--name", "long", "-S", "epochs=60")
    project.run("make", "submit")
    checkpoint = project.folder / ".dvc/tmp/jobs/long/models/checkpoint.safetensors"
    assert re.search("long: job [0-9]+ waits or runs", project.run("make", "submit"))
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert time.monotonic() < deadline, log_of_jobs(project)
        time.sleep(0.05)
    (job,) = project.run("squeue", "--noheader", "--format=%i").split()
    project.run("scontrol", "requeue", job)
    wait_for_jobs(project)
    assert re.search("^Resuming after epoch [0-9]+ of 60$", log_of_jobs(project), re.MULTILINE)
    assert outs_of(project, "long") == alone.outs()


def test_four_experiments_on_two_nodes_of_which_one_fails(
    digits_run: Project, cluster: dict[str, str], tmp_path: Path
) -> None:
    alone = digits_run.copy(tmp_path / "alone")
    project = on_cluster(digits_run.copy(tmp_path / "my digits"), cluster)
    # What README.md recommends for a shared file system.
    project.dvc("config", "cache.type", "hardlink,symlink")
    project.dvc("config", "cache.shared", "group")
    project.dvc("config", "core.hardlink_lock", "true")
    (project.folder / ".dvc/tmp/lock").unlink()  # of the other kind
    project.commit("settings for a shared file system")
    project.dvc("exp", "run", "--queue", "--name", "seed", "-S", "seed=range(1,4)")
    project.dvc("exp", "run", "--queue", "--name", "wrong", "-S", "batch_size=0")
    assert project.run("make", "submit").count(": job ") == 4
    wait_for_jobs(project)

    status = project.dvc("queue", "status")
    assert "wrong" in status and "seed" not in status
    assert "wrong failed; 'make submit' submits it again" in log_of_jobs(project)
    output = project.run("make", "submit")
    assert "wrong: its last job failed, see .dvc/tmp/jobs/wrong.log; submitted again" in output
    wait_for_jobs(project)
    project.dvc("queue", "remove", "wrong")
    assert "the queue is empty" in project.run("make", "submit", status=2)

    found = {name: outs_of(project, name) for name in (f"seed-{seed}" for seed in range(1, 4))}
    for seed in range(1, 4):
        alone.set_params(seed=seed)
        alone.stages("train", "evaluate")
        assert found[f"seed-{seed}"] == alone.outs()
    left = (project.folder / ".dvc/tmp/jobs").iterdir()
    assert {path.suffix for path in left} == {".log"}, "no clone"
