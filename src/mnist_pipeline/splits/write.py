"""Turn raw files into the train, validation and test splits. Does not import torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from ..common.errors import UserError
from ..common.files import atomic, sha256, write_json
from ..raw.idx import PARTS, read_idx

CHUNK = 8 * 2**20
"""Bytes of images in memory at a time."""


@dataclass(frozen=True)
class RawSplit:
    """Images uint8 [N, C, H, W], memory-mapped; labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class RawDataset:
    """The checked content of data/raw."""

    name: str
    classes: list[str]
    picture: str  # what the images were made from, glyph or photo
    train: RawSplit
    test: RawSplit


class DamagedFileError(UserError):
    """A raw file whose content is not what it should be."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}.\nDownload it again: dvc repro --force --single-item download"
        )


def read_raw(folder: Path) -> RawDataset:
    """Read the files listed in `folder`/dataset.json and verify their checksums.

    Raises UserError: it names the file, what was found and what was expected.
    """
    path = folder / "dataset.json"
    try:
        description = json.loads(path.read_text("utf-8"))
        name, classes, picture, files = (
            description[key] for key in ("name", "classes", "picture", "files")
        )
        paths = {part: folder / files[part]["path"] for part in PARTS}
        checksums = {part: files[part]["sha256"] for part in PARTS}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; 'dvc repro download' writes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(path, f"not what download writes ({error!r})") from None
    for part, file in paths.items():
        found = f"SHA-256 {sha256(file)}" if file.is_file() else "no file"
        expected = f"SHA-256 {checksums[part]}"
        if found != expected:
            raise DamagedFileError(file, f"found {found[:20]}, expected {expected[:20]}")
    train, test = (
        _read_split(paths[f"{split}-images"], paths[f"{split}-labels"], len(classes))
        for split in ("train", "test")
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        problem = (
            f"found images of {test.images.shape[1:]}, expected {train.images.shape[1:]}, as those"
            f" of {paths['train-images'].name}"
        )
        raise DamagedFileError(paths["test-images"], problem)
    return RawDataset(name, classes, picture, train, test)


def _read_split(images_path: Path, labels_path: Path, num_classes: int) -> RawSplit:
    """Memory-map one split and check that its arrays fit together."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    if labels.ndim == 2:
        labels = labels[:, 0]  # QMNIST's further columns tell who wrote the digit
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
        expected = f"uint8 ({len(labels)}, [C,] H, W), one image per label"
        raise DamagedFileError(
            images_path, f"found {images.dtype} {images.shape}, expected {expected}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        found = f"{labels.min()} to {labels.max()}"
        raise DamagedFileError(
            labels_path, f"found labels {found}, expected 0 to {num_classes - 1}"
        )
    if images.ndim == 3:
        images = images[:, np.newaxis]
    return RawSplit(images, labels.astype(np.int64))


def stratified_split(labels: np.ndarray, validation_fraction: float) -> tuple[np.ndarray, ...]:
    """Sorted indices of the training and the validation images, stratified by class.

    The split does not depend on params.yaml's seed, so results of different seeds are comparable.
    Raises UserError: too few images for this fraction.
    """
    indices = np.arange(len(labels))
    if validation_fraction == 0:
        return indices, indices[:0]
    try:
        train, validation = train_test_split(
            indices, test_size=validation_fraction, stratify=labels, random_state=0
        )
    except ValueError as error:
        raise UserError(
            f"validation_fraction: found {validation_fraction}, which cannot split {len(labels)}"
            f" images by class ({error}); 0.1 is usual, 0 trains on all images"
        ) from None
    return np.sort(train), np.sort(validation)


def write_splits(raw: RawDataset, validation_fraction: float, folder: Path) -> dict[str, int]:
    """Write each split to `folder` and return its number of images.

    `folder`/<split>/images.npy is uint8 [N, C, H, W] and labels.npy int64 [N].
    `folder`/dataset.json holds the name, the class names, mean and standard deviation of the
    training pixels in [0, 1], the shape [C, H, W] of an image, and what it was made from.
    """
    train, validation = stratified_split(raw.train.labels, validation_fraction)
    mean, std = pixel_statistics(raw.train.images, train)
    test = np.arange(len(raw.test.labels))
    indices_of = {"train": train, "validation": validation, "test": test}
    for name, indices in indices_of.items():
        split = raw.test if name == "test" else raw.train
        save_rows(folder / name / "images.npy", split.images, indices)
        save_rows(folder / name / "labels.npy", split.labels, indices)
    info = {
        "name": raw.name,
        "classes": raw.classes,
        "mean": mean,
        "std": std,
        "shape": raw.train.images.shape[1:],
        "picture": raw.picture,
    }
    write_json(folder / "dataset.json", info)
    return {name: len(indices) for name, indices in indices_of.items()}


def pixel_statistics(images: np.ndarray, indices: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of the indexed images, scaled to [0, 1].

    Computed in exact integers, so the result is the same on every machine.
    """
    counts = np.zeros(256, np.int64)
    for chunk in rows(images, indices):
        counts += np.bincount(chunk.ravel(), minlength=256)
    number, total, squares = (
        sum(int(count) * value**power for value, count in enumerate(counts)) for power in range(3)
    )
    mean = total / (255 * number)
    variance = (number * squares - total**2) / (255 * number) ** 2
    return mean, variance**0.5


def save_rows(path: Path, array: np.ndarray, indices: np.ndarray) -> None:
    """Save `array[indices]` as .npy, one chunk at a time.

    Through ordinary writes, not a writable memory map: on a full disk a write to a memory map ends
    the process with SIGBUS instead of an error.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": (len(indices), *array.shape[1:]),
    }
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in rows(array, indices):
            file.write(np.ascontiguousarray(chunk).data)


def rows(array: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Yield `array[indices]` in chunks of at most CHUNK bytes, or of a single row."""
    step = max(1, CHUNK // array[:1].nbytes)
    for start in range(0, len(indices), step):
        yield array[indices[start : start + step]]
