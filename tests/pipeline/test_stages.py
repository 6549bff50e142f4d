"""The stage scripts by hand: what they write, and what they say of a wrong world."""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pandas as pd
import pytest
import yaml

from .project import ALL, ROOT, Project


def test_a_wrong_params_file_ends_every_stage_before_it_writes(project: Project) -> None:
    before = project.outs()
    project.set_params(epochs=-1, loss="mae", dataset="digit", threads=0)
    output = project.stages(*ALL)
    assert output.count("exit code 2") == len(ALL)
    for problem, count in {
        "dataset: found digit, expected one of mnist, ": 2,
        "epochs: found -1, expected greater than or equal to 1": 1,
        "loss: found mae, expected one of cross_entropy, nll, mse, bce": 1,
        "threads: found 0, expected auto": 2,
    }.items():
        assert output.count(problem) == count
    assert "Traceback" not in output
    assert project.outs() == before


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ("[[1],[1],[1],[1]]", "models.cnn.channels: found 4 blocks, expected at most 3"),
        ("[[1],[0]]", "models.cnn.channels.1.0: found 0, expected greater than or equal to 1"),
    ],
)
def test_a_network_that_cannot_be_built_ends_the_train_stage_before_it_writes(
    project: Project, blocks: str, expected: str
) -> None:
    options = ["-S", "model=cnn", "-S", f"models.cnn.channels={blocks}"]
    output = project.dvc("exp", "run", *options, status=None)
    assert expected in output
    assert "Traceback" not in output
    assert not (project.folder / "models/model.safetensors").exists()


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
    "missing",
    [
        [
            ("preprocess", "data/raw/dataset.json", "dvc repro download"),
            ("train", "data/processed/train/images.npy", "dvc repro preprocess"),
            ("evaluate", "data/processed/test/labels.npy", "dvc repro preprocess"),
        ],
        [
            ("train", "data/processed/dataset.json", "dvc repro preprocess"),
            ("evaluate", "models/model.safetensors", "dvc repro train"),
        ],
    ],
)
def test_a_missing_input_is_named(project: Project, missing: list[tuple[str, str, str]]) -> None:
    project.set_params(dataset="mnist")  # the digits have no raw files
    for _, name, _ in missing:
        (project.folder / name).unlink()
    output = project.stages(*(stage for stage, _, _ in missing))
    assert output.count("exit code 1") == len(missing)
    for _, name, advice in missing:
        assert re.search(f"{name}: no such file.*; '{advice}' writes it", output, re.IGNORECASE)
    assert "Traceback" not in output


def test_training_knows_nothing_of_the_test_split(project: Project) -> None:
    model = project.folder / "models/model.safetensors"
    before = model.read_bytes()
    shutil.rmtree(project.folder / "data/processed/test")
    model.unlink()
    project.stages("train")
    assert model.read_bytes() == before


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


def test_a_terminal_shows_a_bar(project: Project) -> None:
    project.set_params(epochs=1, batch_size=4)
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
    bar = re.compile(rb"Epoch \[1/1\]: +\d+%\|.*/1078 \[\d\d:\d\d<\d\d:\d\d, .* images/s, loss=\d")
    assert bar.search(shown), shown
    assert shown.count(b"Epoch [1/1]: train loss") == 1


def test_a_log_has_the_lines_of_the_tutorial(project: Project) -> None:
    project.set_params(log_every=10)
    train, evaluate = project.stages("train", "evaluate").split("Accuracy")
    assert "\nEpoch [1/3], Step [10/17], Loss: " in train
    assert "images/s" not in train, "no bar"
    accuracy = project.read("metrics/test.json")["accuracy"]
    assert f" of the model on the 599 test images: {100 * accuracy:.2f}%\n" == evaluate


def test_by_hand_makes_the_errors_of_the_default_settings(project: Project) -> None:
    default = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings = {name: default[name] for name in ("epochs", "batch_size", "optimizer", "log_every")}
    project.set_params(**settings)
    project.stages("train", "evaluate")
    errors = project.read("metrics/test.json")["errors"]
    output = project.run("python", "tools/by_hand.py")
    assert f"\n{errors} errors in 599 test images, accuracy " in output
    assert 30 < errors < 300
