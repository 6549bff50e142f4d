"""Scratch clones: one with the digits' pipeline already run, copied for each test that asks."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ..conftest import shared
from . import fork_server as fork_server_module
from .fork_server import write_environment
from .layouts import make_quick
from .project import SMALL, VENV, Project, ran

RECORDING = """
stages:
  preprocess:
    cmd: echo nothing
  train:
    cmd: python record.py
    params: [seed]
    metrics:
      - metrics/train.json: {cache: false}
"""
RECORD = """
import os, sys, time
from pathlib import Path

meeting = Path(os.environ["MEETING"])
variables = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")]
(meeting / str(os.getpid())).write_text(str(variables))
for _ in range(600):  # until all workers are at it, each with one experiment
    if len(list(meeting.iterdir())) == int(os.environ["WORKERS_MET"]):
        break
    time.sleep(0.1)
else:
    sys.exit("the others did not come")
Path("metrics/train.json").write_text('{"validation_loss": 1.0}')
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives make and dvc; `make check` leaves it out."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.pipeline)


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An environment for projects whose `python` and `dvc` are forks of a process with imports."""

    def start(folder: Path) -> None:
        address = Path(tempfile.mkdtemp(prefix="fork")) / "server"  # short: at most 107 characters
        write_environment(folder, VENV, address)
        # It outlives the worker that starts it, and ends with the process that started all workers.
        pytest_itself = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
        server = subprocess.Popen(
            [sys.executable, fork_server_module.__file__, str(address), str(pytest_itself)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"

    if sys.platform == "linux":
        Project.environment = shared(tmp_path_factory, "environment", start)


@pytest.fixture
def real_processes(fork_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are about processes: `python` and `dvc` are no forks."""
    monkeypatch.setattr(Project, "environment", VENV)


@pytest.fixture(scope="session")
def fresh_clone(fork_server: None, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The working tree as somebody else finds it. Not to be changed by a test."""
    return Project.copy_of_working_tree(tmp_path_factory.mktemp("clones") / "a fresh clone")


@pytest.fixture(scope="session")
def digits_run(fresh_clone: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone set to the digits, run and committed. Not to be changed by a test."""

    def build(folder: Path) -> None:
        project = fresh_clone.copy(folder)
        project.set_params(**SMALL)
        project.dvc("repro")
        project.commit("the digits")

    return Project(shared(tmp_path_factory, "the digits", build))


@pytest.fixture(scope="session")
def two_processes(digits_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The digits, trained by two processes of one host. Not to be changed by a test."""

    def build(folder: Path) -> None:
        project = digits_run.copy(folder)
        project.set_params(
            epochs=5, model="cnn", augmentation="affine", keep="best",
            launcher="torchrun --standalone --nproc-per-node 2",
        )  # fmt: skip
        output = project.dvc("repro", "--single-item", "train", OMP_NUM_THREADS="1")
        assert ran(output) == ["train"]

    return Project(shared(tmp_path_factory, "two processes", build))


@pytest.fixture(scope="session")
def quick_project(digits_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The digits' run with stages that copy its results. Not to be changed by a test."""

    def build(folder: Path) -> None:
        make_quick(digits_run.copy(folder))

    return Project(shared(tmp_path_factory, "quick stages", build))


@pytest.fixture
def clone(fresh_clone: Project, tmp_path: Path) -> Project:
    """A fresh clone of one's own."""
    return fresh_clone.copy(tmp_path / "my clone")


@pytest.fixture
def project(digits_run: Project, tmp_path: Path) -> Project:
    """A clone of one's own in which the digits' pipeline has run."""
    return digits_run.copy(tmp_path / "my digits")


@pytest.fixture
def project_on_gpus(clone: Project, tmp_path: Path) -> Project:
    """A clone on a machine with three GPUs, whose only stage records its environment."""
    (tmp_path / "bin").mkdir()
    smi = tmp_path / "bin/nvidia-smi"
    listed = "\n".join(f"GPU {gpu}: NVIDIA H100 (UUID: GPU-{gpu})" for gpu in range(3))
    smi.write_text(f'#!/bin/sh\ntest "$1" = -L && echo "{listed}"\n')
    smi.chmod(0o755)
    clone.env |= {"PATH": f"{tmp_path / 'bin'}:{clone.env['PATH']}", "MEETING": str(tmp_path / "m")}
    clone.env.pop("CUDA_VISIBLE_DEVICES", None)
    (tmp_path / "m").mkdir()
    clone.install()
    (clone.folder / "dvc.yaml").write_text(RECORDING)
    (clone.folder / "record.py").write_text(RECORD)
    clone.commit("a stage that records its environment")
    return clone
