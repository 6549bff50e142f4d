"""The tools beside the pipeline: the trained model on pictures, and as ONNX."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from mnist_pipeline.data import load_split
from mnist_pipeline.prepare import prepare

from .project import Project


def test_every_picture_is_answered_and_the_others_named(project: Project, tmp_path: Path) -> None:
    image, label = load_split(project.folder / "data/processed", "test")[0][0]
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


def test_the_exported_model_answers_as_pytorch_does(project: Project) -> None:
    output = project.run("python", "tools/export.py")
    assert output.startswith("models/model.onnx: 599 of 599 predictions are those of PyTorch")
    assert output.count("\n") == 1
    content = (project.folder / "models/model.onnx").read_bytes()
    assert b"site-packages" not in content, "no folder of this machine"
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["classes"] == json.dumps(list("0123456789"))
    for count in (1, 3):
        (found,) = session.run(None, {"images": np.zeros((count, 1, 28, 28), np.uint8)})
        assert found.shape == (count, 10)
        assert np.allclose(found.sum(1), 1)
    assert project.run("git", "status", "--porcelain") == ""
    assert "up to date" in project.dvc("status")
