"""Killed at any moment, a run ends with the same bytes as one never disturbed."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mnist_pipeline.common.tensors import load_tensors

from .project import BIN, Project, ran

KILLS = 12
OUR_FRAME = re.compile(r'File ".*/(stages|mnist_pipeline)/')  # in a traceback; dvc's are its own
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


def start(project: Project, log: Path, *command: str) -> subprocess.Popen[bytes]:
    """A command as the leader of a process group of its own."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=project.folder,
            env=project.env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_a_dozen_kills(project: Project, tmp_path: Path) -> None:
    project.set_params(epochs=60, batch_size=16)  # a run of seconds
    (project.folder / ".venv").symlink_to(BIN.parent)
    project.dvc("repro")
    expected, lock = project.outs(), (project.folder / "dvc.lock").read_bytes()
    history = expected["metrics/history.csv"]

    def start_over() -> None:
        for out in ("data/raw", "data/processed", "metrics", "pictures", ".dvc/cache", ".dvc/tmp"):
            shutil.rmtree(project.folder / out)
        (project.folder / "models/model.safetensors").unlink()
        (project.folder / "dvc.lock").unlink()

    log = tmp_path / "log"
    generator = random.Random(0)
    kills, resumed = 0, 0
    start_over()
    while True:
        process = start(project, log, "make", "repro")
        patience = generator.uniform(0.2, 9) if kills < KILLS else 120
        if kills == 0:  # the moments are random, but one of them is in the training
            wait_until(lambda: "Epoch [2/60]: train loss" in log.read_text(), process)
            patience = 0
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            assert kills < KILLS, log.read_text()
            sent = generator.choice(SIGNALS)
            kill(process, sent)
            kills += 1
        else:
            assert status == 0, log.read_text()
        output = log.read_text()
        assert not OUR_FRAME.search(output), output
        resumed += output.count("Resuming after epoch")
        for name, content in project.outs().items():
            if name == "models/checkpoint.safetensors":
                load_tensors(project.folder / name)
            elif name == "metrics/history.csv":
                assert history.startswith(content), "one row per epoch, whole rows"
            else:
                assert content == expected[name], f"{name} is neither whole nor absent"
        if process.returncode == 0:
            assert project.outs() == expected
            assert (project.folder / "dvc.lock").read_bytes() == lock
            assert not (project.folder / "models/checkpoint.safetensors").exists()
            if kills == KILLS:
                break
            start_over()
    assert resumed


def kill(process: subprocess.Popen[bytes], sent: signal.Signals) -> None:
    """Send a signal to a whole process group, and wait for the last of it.

    Python can lose a Ctrl-C that comes in the middle of an import: then it is pressed once more.
    """
    while process.poll() is None:
        os.killpg(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_half_written_table_of_locks_is_no_obstacle(project: Project) -> None:
    (project.folder / ".venv").symlink_to(BIN.parent)
    (project.folder / ".dvc/tmp/rwlock").write_text('{"write": {')
    project.set_params(seed=3)
    assert "JSON structure is corrupted" in project.dvc("repro", status=None)
    assert ran(project.run("make", "repro")) == ["train", "evaluate"]


def test_a_file_left_behind_is_no_part_of_the_data(project: Project, tmp_path: Path) -> None:
    project.set_params(epochs=100000)
    log = tmp_path / "log"
    process = start(project, log, "python", "stages/train.py")
    wait_until((project.folder / "models/checkpoint.safetensors").exists, process)
    kill(process, signal.SIGKILL)
    for folder in ("data", "data/processed/train"):
        (project.folder / folder / ".images.npy.0123.partial").touch()
    assert "data" not in project.dvc("status", "train", "preprocess")
    assert "partial" not in project.run("git", "status", "--short")
    process = start(project, log, "python", "stages/train.py")
    wait_until(lambda: "Epoch [" in log.read_text(), process)
    kill(process, signal.SIGKILL)
    assert "Resuming after epoch" in log.read_text()


def test_ctrl_c_during_the_imports_prints_nothing(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(project, log, "python", "-X", "importtime", "stages/train.py")
    wait_until(lambda: " torch._utils" in log.read_text(), process)  # the rest of torch: a second
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    lines = log.read_text().splitlines()
    assert [line for line in lines if not line.startswith("import time:")] == []
    assert not any(line.endswith("mnist_pipeline.training.run") for line in lines), "too late"


def test_ctrl_c_in_the_training_prints_one_line(project: Project, tmp_path: Path) -> None:
    project.set_params(epochs=100000, log_every=1)
    log = tmp_path / "log"
    process = start(project, log, "python", "stages/train.py")
    wait_until(lambda: "Step [1/17]" in log.read_text(), process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    lines = log.read_text().splitlines()
    assert [line for line in lines if not line.startswith(("Epoch", "Train"))] == ["interrupted"]


def test_another_setting_after_a_kill_starts_from_the_beginning_and_says_so(
    project: Project, tmp_path: Path
) -> None:
    project.set_params(epochs=100000)
    process = start(project, tmp_path / "log", "dvc", "repro")
    checkpoint = project.folder / "models/checkpoint.safetensors"
    wait_until(checkpoint.exists, process)
    kill(process, signal.SIGKILL)
    project.set_params(epochs=3, seed=5)
    output = project.dvc("repro")
    assert "checkpoint.safetensors: different params; training starts from the beginning" in output
    assert not checkpoint.exists()
    assert project.read("metrics/train.json")["epoch"] == 3
