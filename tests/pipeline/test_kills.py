"""Killed at any moment, a run ends with the same bytes as one never disturbed."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mnist_pipeline.model.tensors import load_tensors
from mnist_pipeline.raw.sources import remote_files

from ..mirror import serve
from .project import BIN, ROOT, VENV, Project

# What a run is killed at, in the order of the stages, and how.
PLACES = {
    "data/raw/*": signal.SIGKILL,
    "data/processed/*/*.npy": signal.SIGTERM,
    "models/checkpoint.safetensors": signal.SIGKILL,
    "models/model.safetensors": signal.SIGINT,
    "metrics/test.json": signal.SIGKILL,
}
OUR_FRAME = re.compile(r'File ".*/(stages|mnist_pipeline)/')  # in a traceback; dvc's are its own


def start(project: Project, log: Path, *command: str) -> subprocess.Popen[bytes]:
    """A command as the leader of a process group of its own; no process of it is a fork of ours."""
    path = os.pathsep.join([str(BIN), project.env["PATH"]])
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=project.folder,
            env=project.env | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_a_kill_in_every_stage(project: Project, tmp_path: Path) -> None:
    project.set_params(epochs=6, batch_size=8)  # long enough to be killed in
    project.install(VENV)
    project.dvc("repro")
    expected, lock = project.outs(), (project.folder / "dvc.lock").read_bytes()
    for out in ("data/raw", "data/processed", "metrics", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project.folder / out)
    for name in ("models/model.safetensors", "dvc.lock"):
        (project.folder / name).unlink()

    logs: list[Path] = []
    for place, sent in PLACES.items():
        logs.append(tmp_path / f"log {len(logs)}")
        process = start(project, logs[-1], "make", "repro")
        wait_until(partial(is_there, project.folder, place), process)
        kill(process, sent)
        for name, content in project.outs().items():
            if name == "models/checkpoint.safetensors":
                load_tensors(project.folder / name)
            elif name == "metrics/history.csv":
                assert expected[name].startswith(content), "one row per epoch, whole rows"
            else:
                assert content == expected[name], f"{name} is neither whole nor absent"
    project.run("make", "repro")
    assert project.outs() == expected
    assert (project.folder / "dvc.lock").read_bytes() == lock
    output = "".join(log.read_text() for log in logs)
    assert "Resuming after epoch" in output
    assert not OUR_FRAME.search(output), output


def test_a_kill_in_the_middle_of_a_download(
    clone: Project, mnist_mirror: str, tmp_path: Path
) -> None:
    clone.env["MNIST_CACHE"] = str(tmp_path / "cache")
    clone.dvc("repro", "download", MNIST_MIRROR=str((ROOT / mnist_mirror).resolve()))
    expected = clone.outs()
    _, files = remote_files("mnist")
    content = {name: (tmp_path / "cache" / md5).read_bytes() for name, md5 in files}
    clone.env["MNIST_CACHE"] = "off"
    with serve(content) as mirror:
        clone.env["MNIST_MIRROR"] = mirror.url("stalls")
        process = start(clone, tmp_path / "log", "dvc", "repro", "--force", "download")
        half = partial(is_there, clone.folder, "data/.raw.*.partial/MNIST/raw/*.gz")
        wait_until(half, process)
        kill(process, signal.SIGKILL)
        assert half(), "killed in mid-write"
        assert not (clone.folder / "data/raw").exists()
        clone.dvc("repro", "download", MNIST_MIRROR=mirror.url("good"))
    assert clone.outs() == expected
    assert clone.run("git", "status", "--porcelain", "data", "dvc.lock") == ""


def is_there(folder: Path, pattern: str) -> bool:
    return any(folder.glob(pattern))


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
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_half_written_table_of_locks_is_no_obstacle(project: Project) -> None:
    project.install()
    (project.folder / ".dvc/tmp/rwlock").write_text('{"write": {')
    assert "JSON structure is corrupted" in project.dvc("repro", status=None)
    with (project.folder / ".dvc/tmp/rwlock.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as DVC does while it writes the table
        assert "error: .dvc/tmp/rwlock: " in project.run("make", "repro", status=2)
        assert (project.folder / ".dvc/tmp/rwlock").exists()
    assert "up to date" in project.run("make", "repro")


def test_a_training_goes_on_after_a_kill_and_ctrl_c_unless_a_setting_has_changed(
    project: Project, tmp_path: Path
) -> None:
    project.set_params(epochs=100000, log_every=1)
    checkpoint = project.folder / "models/checkpoint.safetensors"
    log = tmp_path / "log"
    process = start(project, log, "python", "stages/train.py")
    wait_until(checkpoint.exists, process)
    kill(process, signal.SIGKILL)

    # What a kill leaves behind is no part of the data.
    for folder in ("data", "data/processed/train"):
        (project.folder / folder / ".images.npy.0123.partial").touch()
    assert "data" not in project.dvc("status", "train", "preprocess")
    assert "partial" not in project.run("git", "status", "--short")
    process = start(project, log, "python", "stages/train.py")
    wait_until(lambda: "Step [1/17]" in log.read_text(), process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    lines = [line for line in log.read_text().splitlines() if not line.startswith("Epoch")]
    assert [line.split()[0] for line in lines] == ["Training", "Resuming", "interrupted"]

    project.set_params(epochs=3, seed=5)
    output = project.run("python", "stages/train.py")
    assert "checkpoint.safetensors: different params; training starts from the beginning" in output
    assert not checkpoint.exists()
    assert project.read("metrics/train.json")["epoch"] == 3


def test_ctrl_c_during_the_imports_prints_nothing(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(project, log, "python", "-X", "importtime", "stages/train.py")
    wait_until(lambda: " torch._utils" in log.read_text(), process)  # the rest of torch: a second
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    lines = log.read_text().splitlines()
    assert [line for line in lines if not line.startswith("import time:")] == []
    assert not any(line.endswith("mnist_pipeline.training.run") for line in lines), "too late"
