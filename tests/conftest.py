"""What several tests need: real digits everywhere, real MNIST where MNIST_MIRROR names it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mnist_pipeline.data import ImageDataset, load_split
from mnist_pipeline.sources import download
from mnist_pipeline.splits import read_raw, write_splits

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mnist_mirror() -> str:
    mirror = os.environ.get("MNIST_MIRROR")
    if not mirror:
        pytest.skip("needs real MNIST: set MNIST_MIRROR to a folder or URL that has its files")
    return mirror


@pytest.fixture(scope="session")
def digits_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "raw"
    download("digits", [], root)
    return root


@pytest.fixture(scope="session")
def digits_folder(digits_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits' splits as the preprocess stage writes them."""
    folder = tmp_path_factory.mktemp("processed")
    write_splits(read_raw(digits_raw), 0.1, folder)
    return folder


@pytest.fixture(scope="session")
def digits(digits_folder: Path) -> ImageDataset:
    """The training split of the digits."""
    return load_split(digits_folder, "train")[0]


@pytest.fixture(scope="session")
def mnist_folder(mnist_mirror: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST's splits with all 60,000 images to train on, as in the tutorial."""
    folder = tmp_path_factory.mktemp("mnist")
    download("mnist", [mnist_mirror], folder / "raw")
    write_splits(read_raw(folder / "raw"), 0.0, folder / "processed")
    return folder / "processed"


@pytest.fixture(autouse=True)
def same_random_state() -> Iterator[None]:
    """No test's random numbers depend on which tests ran before it."""
    torch.manual_seed(0)
    yield
