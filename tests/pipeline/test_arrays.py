"""dataset: arrays, by the snippets of docs/your-own-data.md: from other libraries to a model."""

import pickle
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from .project import ROOT, Project, ran
from .test_stale import stale

CLASSES = ["cat", "deer", "ship"]
COLOURS = np.array([(40, 90, 220), (40, 150, 60), (200, 60, 40)], np.uint8)


def snippets() -> tuple[list[str], str]:
    """The section's programs, and the command that trains on what they write."""
    page = (ROOT / "docs/your-own-data.md").read_text("utf-8")
    section = page.split("## Any data set in five lines\n")[1].split("\n## ")[0]
    (command,) = re.findall(r"```sh\n(.*?)\n```", section)
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL), command


def things(count: int, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles, each class in a colour of its own: uint8 [N, H, W, 3] and labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = random.integers(120, 200, (count, size, size, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = random.integers(2, size // 2, 2)
        image[top : top + size // 2, left : left + size // 2] = COLOURS[label]
    return images, labels


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small data set in the form of CIFAR-10; torchvision is told to expect no checksums."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    names = [name for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]]
    for seed, name in enumerate(names):
        images, labels = things(18, seed=seed)
        rows = images.transpose(0, 3, 1, 2).reshape(18, -1)  # the channels one after the other
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": labels.tolist()}))
    (folder / CIFAR10.meta["filename"]).write_bytes(pickle.dumps({"label_names": CLASSES}))
    monkeypatch.setattr(CIFAR10, "train_list", [[name, None] for name in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [[name, None] for name in names[5:]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})


class HuggingFace(dict[str, Any]):
    """What the snippet uses of a DatasetDict, a library that the project does not need."""

    def with_format(self, _: str) -> "HuggingFace":
        return self


class Split(SimpleNamespace):
    def __getitem__(self, _: slice) -> dict[str, np.ndarray]:
        return dict(zip(("img", "label"), self.arrays, strict=True))


def module(name: str, **content: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(content)
    return made


def test_any_data_set_in_five_lines(
    clone: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cifar, hugging_face, medmnist), command = snippets()
    data = clone.folder / "data"
    monkeypatch.chdir(clone.folder)

    features = {"label": SimpleNamespace(names=CLASSES)}
    splits = {
        name: Split(arrays=things(18, seed=seed), features=features)
        for seed, name in enumerate(["train", "test"])
    }
    loaded = module("datasets", load_dataset=lambda _: HuggingFace(splits))
    monkeypatch.setitem(sys.modules, "datasets", loaded)
    exec(hugging_face, {})
    with np.load(data / "cifar10.npz") as arrays:
        assert arrays["x_test"].shape == (18, 32, 32, 3)

    images, labels = things(18, 28)
    pairs = {f"{s}_{kind}": a for s in ("train", "val", "test")
             for kind, a in (("images", images), ("labels", labels[:, None]))}  # fmt: skip
    np.savez(tmp_path / "bloodmnist.npz", **pairs)  # type: ignore[arg-type]
    blood = SimpleNamespace(root=tmp_path, info={"label": dict(enumerate(CLASSES))})
    loaded = module("medmnist", BloodMNIST=lambda split, download: blood)
    monkeypatch.setitem(sys.modules, "medmnist", loaded)
    exec(medmnist, {})
    clone.set_params(dataset="arrays", arrays="data/blood.npz")
    output = clone.stages("preprocess")
    assert "blood.npz: has a validation split, so validation_fraction is not used\n" in output
    assert "arrays: 18 train, 18 validation, 18 test images of 3 classes" in output

    write_cifar(data / "cifar10", monkeypatch)
    exec(cifar, {})
    output = clone.run("sh", "-c", f"{command} -S batch_size=16 -S epochs=10")
    assert ran(output) == ["download", "preprocess", "train", "evaluate"]
    assert "arrays: 81 train, 9 validation, 18 test images of 3 classes" in output
    assert clone.read("metrics/test.json")["accuracy"] == 1
    assert pd.read_csv(clone.folder / "metrics/classes.csv")["class"].tolist() == CLASSES
    images = np.load(data / "processed/test/images.npy")
    assert np.array_equal(images, things(18, seed=5)[0].transpose(0, 3, 1, 2))
    Image.fromarray(images[1].transpose(1, 2, 0)).save(tmp_path / "a deer.png")
    answer = clone.run("python", "tools/predict.py", str(tmp_path / "a deer.png"))
    assert answer.startswith(f"{tmp_path}/a deer.png: deer (")

    assert stale(clone) == set()
    (data / "cifar10.npz").write_bytes((data / "cifar10.npz").read_bytes()[:-30])
    assert "preprocess" in stale(clone)
    output = clone.dvc("repro", status=None)
    assert "data/cifar10.npz: File is not a zip file; expected what np.savez writes" in output
    assert "Traceback" not in output
