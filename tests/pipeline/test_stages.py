"""The stage scripts by hand: what they write, and what they say of a wrong world."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pandas as pd
import pytest

from .project import Project


def test_a_wrong_params_file_ends_every_stage_before_it_writes(project: Project) -> None:
    before = project.outs()
    project.set_params(epochs=-1, loss="mae")
    for stage in ("download", "preprocess", "train", "evaluate"):
        output = project.run("python", f"stages/{stage}.py", status=2)
        assert "epochs: found -1, expected greater than or equal to 1" in output
        assert "loss: found mae, expected one of cross_entropy, nll, mse, bce" in output
        assert "Traceback" not in output
    assert project.outs() == before


def test_the_tables_agree_with_the_summary(project: Project) -> None:
    predictions = pd.read_csv(project.folder / "metrics/predictions.csv")
    classes = pd.read_csv(project.folder / "metrics/classes.csv")
    test = project.read("metrics/test.json")
    assert set(test) == {"accuracy", "errors", "loss", "macro_f1", "expected_calibration_error"}
    assert len(predictions) == classes["support"].sum() == 599
    assert (predictions["actual"] != predictions["predicted"]).sum() == test["errors"]
    assert test["accuracy"] == pytest.approx(1 - test["errors"] / 599, rel=1e-5)
    history = pd.read_csv(project.folder / "metrics/history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert project.read("metrics/train.json")["train_loss"] == history["train_loss"].iloc[-1]


@pytest.mark.parametrize(
    ("stage", "missing", "advice"),
    [
        ("preprocess", "data/raw/dataset.json", "dvc repro download"),
        ("train", "data/processed/train/images.npy", "dvc repro preprocess"),
        ("train", "data/processed/dataset.json", "dvc repro preprocess"),
        ("evaluate", "data/processed/test/labels.npy", "dvc repro preprocess"),
        ("evaluate", "models/model.safetensors", "dvc repro train"),
    ],
)
def test_a_missing_input_is_named(project: Project, stage: str, missing: str, advice: str) -> None:
    (project.folder / missing).unlink()
    output = project.run("python", f"stages/{stage}.py", status=1)
    assert re.search(f"{missing}: no such file.*; '{advice}' writes it", output, re.IGNORECASE)
    assert "Traceback" not in output


def test_the_wrong_python_is_told_how_to_get_the_right_one(
    fresh_clone: Project, tmp_path: Path
) -> None:
    bare = str(Path(sys._base_executable))  # type: ignore[attr-defined]  # it has no torch
    (tmp_path / "torch.py").touch()
    scripts = [
        path for name in ("stages", "tools") for path in fresh_clone.folder.glob(f"{name}/[!_]*.py")
    ]
    for script in scripts:
        if script.name == "env.py":
            continue
        for path in ("", str(tmp_path)):  # with torch and nothing else, too
            output = fresh_clone.run(bare, "-s", str(script), status=1, PYTHONPATH=path)
            assert "'source .venv/bin/activate'" in output
            assert "Traceback" not in output


def test_a_terminal_shows_a_bar_and_a_log_does_not(project: Project) -> None:
    project.set_params(batch_size=2, log_every=20)
    log = project.run("python", "stages/train.py")
    assert "Step [" in log
    assert "images/s" not in log
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 30, 120, 0, 0))  # rows and columns
    process = subprocess.Popen(
        ["python", "stages/train.py"], cwd=project.folder, env=project.env, stdout=end, stderr=end
    )
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while chunk := os.read(terminal, 65536):
            shown += chunk
    os.close(terminal)
    assert process.wait(100) == 0
    bar = re.compile(rb"Epoch \[3/3\]: +\d+%\|.*/1078 \[\d\d:\d\d<\d\d:\d\d, .* images/s, loss=\d")
    assert bar.search(shown), shown
    assert shown.count(b"Epoch [3/3]: train loss") == 1


def test_training_without_a_validation_split(project: Project) -> None:
    output = project.dvc("exp", "run", "-S", "validation_fraction=0", "-S", "epochs=1")
    assert "1198 train, 0 validation" in output
    assert set(project.read("metrics/train.json")) == {"epoch", "train_loss", "train_accuracy"}


def test_no_epoch_is_the_best_one_without_validation(project: Project) -> None:
    project.set_params(validation_fraction=0)
    project.run("python", "stages/preprocess.py")
    project.set_params(validation_fraction=0.1, keep="best")
    before = project.outs()
    output = project.run("python", "stages/train.py", status=1)
    assert "data/processed/validation: found no images" in output
    assert "'dvc repro preprocess' writes them" in output
    assert project.outs() == before


def test_train_prints_the_line_of_the_tutorial(project: Project) -> None:
    output = project.run("python", "stages/train.py", status=0)
    assert "Epoch [1/3], Step [17/17], Loss: " not in output  # log_every: 20 is past the end
    project.set_params(log_every=10)
    assert "\nEpoch [1/3], Step [10/17], Loss: " in project.run("python", "stages/train.py")
    output = project.run("python", "stages/evaluate.py")
    accuracy = project.read("metrics/test.json")["accuracy"]
    assert f"Accuracy of the model on the 599 test images: {100 * accuracy:.2f}%\n" == output
