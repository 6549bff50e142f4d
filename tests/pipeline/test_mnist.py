"""The default pipeline on real MNIST, where MNIST_MIRROR names it."""

import json
from pathlib import Path

from .project import ROOT, Project, ran


def test_real_mnist_end_to_end(fresh_clone: Project, mnist_mirror: str, tmp_path: Path) -> None:
    project = fresh_clone.copy(tmp_path / "mnist")
    if not mnist_mirror.startswith("http"):
        mnist_mirror = str((ROOT / mnist_mirror).resolve())
    committed = json.loads((ROOT / "metrics/test.json").read_text())

    # Forced, because with the bytes that dvc.lock names, evaluate wouldn't run.
    output = project.dvc("repro", "--force", MNIST_MIRROR=mnist_mirror)
    assert ran(output) == ["download", "preprocess", "train", "evaluate"]
    assert "Epoch [1/5], Step [100/844], Loss: " in output
    accuracy = project.read("metrics/test.json")["accuracy"]
    assert f"Accuracy of the model on the 10000 test images: {100 * accuracy:.2f}%" in output
    assert accuracy >= 0.92
    assert abs(accuracy - committed["accuracy"]) < 0.005  # other processors round otherwise
    assert ran(project.dvc("repro")) == []
    project.commit("the default run")

    assert ran(project.dvc("exp", "run", "-S", "optimizer=rmsprop")) == ["train", "evaluate"]
    assert project.read("metrics/test.json")["accuracy"] >= 0.97
    assert json.loads(project.dvc("params", "diff", "--json")) == {
        "params.yaml": {"optimizer": {"old": "sgd", "new": "rmsprop"}}
    }
    changes = json.loads(project.dvc("metrics", "diff", "--json"))
    assert changes["metrics/test.json"]["accuracy"]["diff"] > 0.04
