"""The default pipeline on real MNIST, where MNIST_MIRROR names it."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from mnist_pipeline.model.tensors import load_tensors

from .project import ROOT, Project, ran


def weights_digest(model: Path) -> str:
    """SHA-256 over the bytes of the weights in the order of their names, first twelve digits."""
    weights = load_tensors(model)[0]
    content = b"".join(weights[name].numpy().tobytes() for name in sorted(weights))
    return hashlib.sha256(content).hexdigest()[:12]


def this_processor() -> str:
    """Name and widest instructions of the processor, as docs/reliability.md lists them."""
    cpu = torch.cpu.get_capabilities()
    widest = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if cpu.get(name)]
    return f"{cpu['cpu_name']}, {' '.join(widest) or cpu['architecture']}"


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
    errors = project.read("metrics/test.json")["errors"]
    assert f"{errors} errors in 10000 test images" in project.run("python", "tools/by_hand.py")
    digest = weights_digest(project.folder / "models/model.safetensors")
    changed = project.run("git", "status", "--porcelain")
    assert ran(project.dvc("repro")) == []
    project.commit("the default run")

    assert ran(project.dvc("exp", "run", "-S", "optimizer=rmsprop")) == ["train", "evaluate"]
    assert project.read("metrics/test.json")["accuracy"] >= 0.97
    assert json.loads(project.dvc("params", "diff", "--json")) == {
        "params.yaml": {"optimizer": {"old": "sgd", "new": "rmsprop"}}
    }
    changes = json.loads(project.dvc("metrics", "diff", "--json"))
    assert changes["metrics/test.json"]["accuracy"]["diff"] > 0.04
    if this_processor() not in seen_digests():
        pytest.skip(f"no row for '{this_processor()}' in docs/reliability.md: digest {digest}")
    assert (digest, changed) == (seen_digests()[this_processor()], "")
