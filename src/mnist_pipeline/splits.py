"""Raw files → train, validation and test splits, cached as uint8 tensors. Needs no torch."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from .errors import UserError
from .files import sha256
from .idx import DamagedFileError, read_idx
from .tensorfiles import Rows, save_tensors


@dataclass(frozen=True)
class RawSplit:
    """Images uint8 [N, 28, 28], memory-mapped; labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class RawDataset:
    """What the download stage left: all of it checked."""

    name: str
    classes: list[str]
    train: RawSplit
    test: RawSplit


def read_raw(folder: Path) -> RawDataset:
    """Read and check the files that dataset.json in `folder` names.

    Raises UserError that names the file, what was found and what was expected.
    """
    path = folder / "dataset.json"
    try:
        description = json.loads(path.read_text("utf-8"))
        name, classes, files = (description[key] for key in ("dataset", "classes", "files"))
        parts = [
            {kind: (folder / files[f"{split} {kind}"]["path"], files[f"{split} {kind}"]["sha256"])
             for kind in ("images", "labels")}
            for split in ("train", "test")
        ]  # fmt: skip
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; 'dvc repro download' writes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(path, f"not what download writes ({error!r})") from None
    train, test = (_read_split(**part, classes=len(classes)) for part in parts)
    return RawDataset(name, classes, train, test)


def _read_split(images: tuple[Path, str], labels: tuple[Path, str], classes: int) -> RawSplit:
    pixels, classes_of = read_idx(images[0]), read_idx(labels[0])
    if pixels.ndim != 3 or pixels.shape[1:] != (28, 28) or pixels.dtype != np.uint8:
        found = f"{pixels.dtype} of {' × '.join(map(str, pixels.shape))}"
        raise DamagedFileError(images[0], f"found {found}, expected uint8 images of 28 × 28")
    if classes_of.ndim == 2:
        classes_of = classes_of[:, 0]  # QMNIST: the class, then who wrote it and when
    if classes_of.ndim != 1:
        raise DamagedFileError(
            labels[0], f"found {classes_of.ndim} dimensions, expected one or two"
        )
    if len(classes_of) != len(pixels):
        problem = (
            f"found {len(classes_of)} labels, expected {len(pixels)}, one for each of the images"
        )
        raise DamagedFileError(labels[0], problem)
    wrong = np.flatnonzero((classes_of < 0) | (classes_of >= classes))
    if len(wrong):
        problem = (
            f"found label {classes_of[wrong[0]]} at index {wrong[0]}, expected 0 to {classes - 1}"
        )
        raise DamagedFileError(labels[0], problem)
    for path, expected in (images, labels):
        if (found := sha256(path)) != expected:
            problem = (
                f"found SHA-256 {found[:12]}…, expected {expected[:12]}…; its bytes have changed"
            )
            raise DamagedFileError(path, problem)
    return RawSplit(pixels, classes_of.astype(np.int64))


def stratified_split(labels: np.ndarray, validation_fraction: float) -> tuple[np.ndarray, ...]:
    """Ascending indices of the training and of the validation images, each class in proportion.

    The split is the same in every run: it is part of the data, not of the training's seed.
    Raises UserError: too few images for the fraction.
    """
    everything = np.arange(len(labels))
    if validation_fraction == 0:
        return everything, everything[:0]
    try:
        train, validation = train_test_split(
            everything, test_size=validation_fraction, stratify=labels, random_state=0
        )
    except ValueError as error:
        raise UserError(
            f"validation_fraction: found {validation_fraction}, which can't split {len(labels)}"
            f" images by class ({error}); 0.1 is usual, 0 trains on all of them"
        ) from None
    return np.sort(train), np.sort(validation)


def write_splits(raw: RawDataset, validation_fraction: float, folder: Path) -> dict[str, int]:
    """Write train, validation and test.safetensors below `folder`; the number of images of each.

    Each holds images uint8 [N, 1, 28, 28] and labels int64 [N]. Its header gives dataset,
    split, class names, and mean and standard deviation of the training pixels in [0, 1].
    """
    train, validation = stratified_split(raw.train.labels, validation_fraction)
    mean, std = pixel_statistics(raw.train.images, train)
    counts = {}
    for name, split, indices in (
        ("train", raw.train, train),
        ("validation", raw.train, validation),
        ("test", raw.test, np.arange(len(raw.test.labels))),
    ):
        images, labels = Rows(split.images[:, np.newaxis], indices), split.labels[indices]
        header = {
            "dataset": raw.name,
            "split": name,
            "classes": raw.classes,
            "mean": mean,
            "std": std,
        }
        save_tensors(folder / f"{name}.safetensors", {"images": images, "labels": labels}, header)
        counts[name] = len(indices)
    return counts


def pixel_statistics(images: np.ndarray, indices: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation over all pixels of the indexed images, scaled to [0, 1].

    From a histogram of the 256 values, so that the result doesn't depend on an order of summation.
    """
    counts = np.zeros(256, np.int64)
    for piece in Rows(images, indices):
        counts += np.bincount(piece.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float(counts @ values / counts.sum())
    variance = float(counts @ (values - mean) ** 2 / counts.sum())
    return mean, variance**0.5
