"""Write the train, validation and test splits of a decoded dataset."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from ..common.errors import UserError
from ..common.files import atomic, write_json
from .decoded import DecodedDataset

CHUNK = 8 * 2**20
"""Bytes of images in memory at a time."""


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


def write_splits(
    dataset: DecodedDataset, validation_fraction: float, folder: Path
) -> dict[str, int]:
    """Write each split to `folder` and return its number of images.

    `folder`/<split>/images.npy is uint8 [N, C, H, W] and labels.npy int64 [N].
    `folder`/dataset.json holds the name, the class names, mean and standard deviation of the
    training pixels in [0, 1], the shape [C, H, W] of an image, and what it was made from.
    """
    train, validation = stratified_split(dataset.train.labels, validation_fraction)
    mean, std = pixel_statistics(dataset.train.images, train)
    test = np.arange(len(dataset.test.labels))
    indices_of = {"train": train, "validation": validation, "test": test}
    for name, indices in indices_of.items():
        split = dataset.test if name == "test" else dataset.train
        save_rows(folder / name / "images.npy", split.images, indices)
        save_rows(folder / name / "labels.npy", split.labels, indices)
    info = {
        "name": dataset.name,
        "classes": dataset.classes,
        "mean": mean,
        "std": std,
        "shape": dataset.train.images.shape[1:],
        "picture": dataset.picture,
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
