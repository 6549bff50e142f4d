"""The default pipeline on real MNIST, where MNIST_MIRROR names it."""

import json
import re
from pathlib import Path

import pytest
from _processor import this_processor

from .digest import weights_digest
from .project import ROOT, Project, ran


def seen_digests() -> dict[str, str]:
    """Processor and digest of each row of the table in docs/reliability.md."""
    text = (ROOT / "docs/reliability.md").read_text("utf-8")
    return dict(re.findall(r"^\| ([^|]+) \| \d+ \| `([0-9a-f]{12})`", text, re.MULTILINE))


def test_real_mnist_end_to_end(fresh_clone: Project, mnist_mirror: str, tmp_path: Path) -> None:
    project = fresh_clone.copy(tmp_path / "mnist")
    if not mnist_mirror.startswith("http"):
        mnist_mirror = str((ROOT / mnist_mirror).resolve())

    # Forced, because with the bytes that dvc.lock names, evaluate wouldn't run.
    output = project.dvc("repro", "--force", MNIST_MIRROR=mnist_mirror)
    assert ran(output) == ["download", "preprocess", "train", "evaluate"]
    assert "Epoch [1/5], Step [100/844], Loss: " in output
    accuracy = project.read("metrics/test.json")["accuracy"]
    assert f"Accuracy of the model on the 10000 test images: {100 * accuracy:.2f}%" in output
    assert accuracy >= 0.92
    digest = weights_digest(project.folder / "models/model.safetensors")
    changed = project.run("git", "status", "--porcelain")
    assert ran(project.dvc("repro")) == []
    project.commit("the default run")

    settings = ("-S", "optimizer=rmsprop", "-S", "epochs=2")
    assert ran(project.dvc("exp", "run", *settings)) == ["train", "evaluate"]
    assert project.read("metrics/test.json")["accuracy"] >= 0.95
    changes = json.loads(project.dvc("params", "diff", "--json"))["params.yaml"]
    assert changes["optimizer"] == {"old": "sgd", "new": "rmsprop"}
    assert set(changes) == {"optimizer", "epochs"}
    changes = json.loads(project.dvc("metrics", "diff", "--json"))
    assert changes["metrics/test.json"]["accuracy"]["diff"] > 0.02
    if this_processor() not in seen_digests():
        pytest.skip(f"no row for '{this_processor()}' in docs/reliability.md: digest {digest}")
    assert (digest, changed) == (seen_digests()[this_processor()], "")
