"""Tools that use trained models: on pictures, as ONNX, several of them voting."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from mnist_pipeline.model.inference import inference_loader, predict
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.model.networks import load_model
from mnist_pipeline.raw.prepare import prepare
from mnist_pipeline.splits.batches import load_split

from .project import BIN, Project


def test_every_picture_is_answered_and_the_others_named(project: Project, tmp_path: Path) -> None:
    image, label = load_split(project.folder / "data/processed", "test")[0]
    digit, good = str(label.item()), tmp_path / "a digit.png"
    Image.fromarray(255 - image[0].numpy()).resize((90, 90)).save(good)
    (tmp_path / "text.png").write_text("a digit")
    command = ["python", "tools/predict.py", str(good), str(tmp_path / "text.png"), "nowhere.png"]

    lines = project.run(*command, str(good), status=1).splitlines()
    answers = [line for line in lines if not line.startswith("error: ")]
    assert len(lines) == 4
    assert answers[0] == answers[1]
    assert answers[0].startswith(f"{good}: {digit} (")
    assert "error: nowhere.png: No such file or directory; expected a picture" in lines

    first, *broken = map(json.loads, project.run(*command, "--json", status=1).splitlines())
    assert (first["class"], list(first["probabilities"])) == (digit, list("0123456789"))
    assert first["confidence"] == first["probabilities"][digit] > 0.5
    assert [list(answer) for answer in broken] == [["file", "error"]] * 2

    shell = f"python tools/predict.py --show - < '{good}'"
    answer, *drawing = project.run("sh", "-c", shell).splitlines()
    assert answer.startswith(f"-: {digit} (")
    assert len(drawing) == 28
    assert [bool(line) for line in drawing] == (prepare(good).max(1) > 51).tolist()


def test_digits_side_by_side_are_answered_one_by_one(project: Project, tmp_path: Path) -> None:
    images, labels = load_split(project.folder / "data/processed", "test")[:2]
    page = np.full((160, 400), 255, np.uint8)
    for image, left in zip(images[:, 0].numpy(), (20, 230), strict=True):
        large = Image.fromarray(255 - image).resize((140, 140), Image.Resampling.BICUBIC)
        page[10:150, left : left + 140] = np.asarray(large)
    Image.fromarray(page).save(tmp_path / "two.png")
    command = ["python", "tools/predict.py", str(tmp_path / "two.png")]
    title, *answers = project.run(*command).splitlines()
    assert title == f"{tmp_path / 'two.png'}: 2 digits, from left to right:"
    assert [answer[:4] for answer in answers] == [f"  {label} " for label in labels.tolist()]
    rows = [json.loads(line) for line in project.run(*command, "--json", "--show").splitlines()]
    assert [(row["digit"], row["digits"]) for row in rows] == [(1, 2), (2, 2)]
    assert np.shape([row["image"] for row in rows]) == (2, 28, 28)


def test_the_exported_model_answers_as_pytorch_does(project: Project) -> None:
    output = project.run("python", "tools/export.py")
    assert output.startswith("Wrote models/model.onnx: 599 of 599 predictions equal PyTorch's")
    assert output.count("\n") == 1
    content = (project.folder / "models/model.onnx").read_bytes()
    assert b"site-packages" not in content, "no path of this machine"
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["classes"] == json.dumps(list("0123456789"))
    for count in (1, 3):
        (found,) = session.run(None, {"images": np.zeros((count, 1, 28, 28), np.uint8)})
        assert found.shape == (count, 10)
        assert np.allclose(found.sum(1), 1)
    assert project.run("git", "status", "--porcelain") == ""
    assert "up to date" in project.dvc("status")


def test_models_of_experiments_vote(project: Project) -> None:
    (project.folder / ".venv").symlink_to(BIN.parent)
    project.dvc("exp", "run", "-S", "seed=1", "--name", "seed-1")
    accuracy = project.read("metrics/test.json")["accuracy"]
    output = project.run("make", "vote", "EXPS=HEAD seed-1")
    rows = [line.split() for line in output.splitlines()]
    assert [row[0] for row in rows] == ["HEAD", "seed-1", "together"]
    assert rows[1][1] == f"{accuracy:.2%}"
    errors = [int(row[-2]) for row in rows]
    for (_, percent, _, _, low, _, high, *_), count in zip(rows, errors, strict=True):
        bounds = [float(text.strip("%,)")) for text in (low, percent, high)]
        assert bounds == sorted(bounds)
        assert bounds[1] == pytest.approx(100 * (1 - count / 599), abs=0.01)

    total = np.zeros((599, 10))
    test_set = load_split(project.folder / "data/processed", "test")
    for rev in ("HEAD", "seed-1"):
        project.dvc("get", ".", "models/model.safetensors", "--rev", rev, "--out", "a", "--force")
        network, spec = load_model(project.folder / "a")
        logits, labels = predict(network, inference_loader(test_set), torch.device("cpu"))
        total += LOSSES[spec.loss].probabilities(logits).numpy()
    assert errors[2] == (total.argmax(1) != labels.numpy()).sum()

    output = project.run("python", "tools/vote.py", "nowhere", "seed-1", "never", status=1)
    assert [line.strip() for line in output.splitlines()] == [
        "error: nowhere: unknown Git revision 'nowhere'; 'dvc exp show' lists experiments",
        "never: unknown Git revision 'never'; 'dvc exp show' lists experiments",
    ]


def test_a_model_that_is_in_no_cache_is_named(project: Project) -> None:
    shutil.rmtree(project.folder / ".dvc/cache")
    output = project.run("python", "tools/vote.py", "HEAD", status=1)
    assert output == (
        "error: HEAD: its models/model.safetensors is neither in the cache nor in a remote;"
        " train it here, or 'make push' where it was trained\n"
    )
