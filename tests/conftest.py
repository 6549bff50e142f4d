"""What several tests need: real digits everywhere, real MNIST where MNIST_MIRROR names it."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker per core, so more threads would wait
os.environ["MNIST_CACHE"] = "off"  # no test sees the user's own

import torch

from mnist_pipeline.model.files import ModelSpec, build_model, save_model
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.raw.sources import download
from mnist_pipeline.splits.batches import ImageDataset, load_info, load_split, make_loader
from mnist_pipeline.splits.digits import read_digits
from mnist_pipeline.splits.raw import read_raw
from mnist_pipeline.splits.write import write_splits

ROOT = Path(__file__).resolve().parents[1]

# What the tests start from, whatever is chosen in params.yaml.
CHOSEN = {
    "dataset": "mnist", "folder": "data/none", "arrays": "data/none", "picture": "glyph",
    "model": "mlp", "optimizer": "sgd",
}  # fmt: skip


def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores to use: tests of the queue, of kills and of browsers mostly wait."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on Windows and macOS
    return (len(affinity(0)) if affinity else os.cpu_count() or 1) + 1


def shared(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """A folder that `build` makes once for all of pytest's workers."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    finished = root / f"{name} is finished"
    with FileLock(root / f"{name}.lock"):
        if not finished.exists():
            build(root / name)
            finished.touch()
    return root / name


@pytest.fixture(scope="session")
def mnist_mirror() -> str:
    mirror = os.environ.get("MNIST_MIRROR")
    if not mirror:
        pytest.skip("needs real MNIST: set MNIST_MIRROR to a folder or URL that has its files")
    return mirror


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The splits of the digits, as the preprocess stage writes them."""
    folder = tmp_path_factory.mktemp("processed")
    write_splits(read_digits(), 0.1, folder)
    return folder


@pytest.fixture(scope="session")
def digits(digits_folder: Path) -> ImageDataset:
    """The training split of the digits."""
    return load_split(digits_folder, "train")


@pytest.fixture(scope="session")
def mnist_folder(mnist_mirror: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST's splits with all 60,000 images to train on, as in the tutorial."""

    def build(folder: Path) -> None:
        download("mnist", [mnist_mirror], folder / "raw")
        write_splits(read_raw(folder / "raw", "mnist"), 0.0, folder / "processed")

    return shared(tmp_path_factory, "mnist", build) / "processed"


@pytest.fixture(scope="session")
def model_file(
    digits_folder: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An MLP trained for seconds, on MNIST if there is a mirror, else on the digits."""
    folder = digits_folder
    if os.environ.get("MNIST_MIRROR"):
        folder = request.getfixturevalue("mnist_folder")
    return shared(tmp_path_factory, "model", partial(train_model, folder)) / "model.safetensors"


def train_model(folder: Path, models: Path) -> None:
    training, info = load_split(folder, "train"), load_info(folder)
    spec = ModelSpec(
        model="mlp",
        settings={"hidden_sizes": [256], "activation": "relu", "dropout": 0.0},
        classes=info.classes,
        mean=0.5,
        std=0.5,
        precision="float32",
        loss="cross_entropy",
        dataset=info.name,
        shape=info.shape,
        picture=info.picture,
    )
    model = build_model(spec)
    optimizer = torch.optim.Adam(model.parameters())
    criterion = LOSSES[spec.loss]()
    loader = make_loader(training, 64, shuffle=True)
    for _ in range(max(1, 60_000 // len(training) // 4)):
        for images, labels in loader:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
    models.mkdir()
    save_model(models / "model.safetensors", model, spec, {})


@pytest.fixture(autouse=True)
def same_random_state() -> Iterator[None]:
    """No test's random numbers depend on which tests ran before it."""
    torch.manual_seed(0)
    yield
