"""Other work on the cores of a run: it is seen, and said twice at most."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mnist_pipeline.runtime.busy import OtherWork
from mnist_pipeline.training import run
from mnist_pipeline.training.settings import TrainSettings

from ..training.test_loop import CPU
from ..training.test_optimizers import PARAMS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
NEVER_WAITED = {"1": 0.0, "2": 0.0}


@pytest.fixture
def one_core() -> Iterator[None]:
    """One core for this process, and for those that it starts."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("one_core")
def test_a_run_beside_other_work_says_so_at_the_start_and_once_later(
    digits_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # real ones would take long there
    monkeypatch.setattr(OtherWork, "period", 0.1)
    params = TrainSettings.model_validate(PARAMS.model_dump() | {"epochs": 6})
    torch.optim.SGD([torch.ones(1)])  # imports for a second, which would be three beside others
    busy = [sys.executable, "-S", "-c", "while True: pass"]
    others = [subprocess.Popen(busy) for _ in range(2)]  # they leave a third of the core
    try:
        run.train(params, digits_folder, tmp_path, tmp_path, CPU)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert capsys.readouterr().err.splitlines() == [
        f"warning: other work {reason}; threads: 1 may be faster than 2, and gives other bytes"
        for reason in ("occupies 1 of 1 cores", "keeps threads waiting for a core")
    ]


@pytest.mark.parametrize(
    ("threads", "cores", "busy", "said"),
    [(2, 2, 1, "threads: 1 "), (2, 2, 2, "threads: 1 "), (8, 8, 3, "threads: 5 "), (4, 8, 4, ""),
     (4, 2, 0, "")],
)  # fmt: skip
def test_at_the_start_cores_have_to_be_free(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    threads: int,
    cores: int,
    busy: int,
    said: str,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("mnist_pipeline.runtime.busy.cores_and_busy", lambda: (cores, busy))
    OtherWork(CPU).warn_at_start()
    errors = capsys.readouterr().err
    assert (said in errors, bool(errors)) == (True, bool(said))


@pytest.mark.parametrize(
    ("device", "threads", "ranks", "waited", "said"),
    [
        ("cpu", 2, "1", {"1": 3.0, "2": 1.0}, True),
        ("cpu", 2, "1", {"1": 2.0, "2": 2.0}, False),  # less than a quarter
        ("cpu", 2, "1", {}, False),  # as where the system does not say
        ("cpu", 2, "2", {"1": 9.0, "2": 9.0}, False),
        ("cpu", 1, "1", {"1": 9.0}, False),
        ("cuda", 2, "1", {"1": 9.0}, False),
    ],
)
def test_later_a_thread_has_to_wait(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    device: str,
    threads: int,
    ranks: str,
    waited: dict[str, float],
    said: bool,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    other_work = OtherWork(torch.device(device))
    other_work.last = time.perf_counter() - 10, NEVER_WAITED
    monkeypatch.setattr("mnist_pipeline.runtime.busy.seconds_waited", lambda: waited)
    other_work.warn_once()
    other_work.warn_once()
    assert capsys.readouterr().err.count("warning: other work keeps threads waiting") == said
