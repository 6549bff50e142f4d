"""Write the train, validation and test splits of a decoded dataset."""

import math
import sys
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from ..common.files import atomic, write_json
from .check import doubts
from .decoded import DecodedDataset

CHUNK = 8 * 2**20
"""Bytes of images in memory at a time."""


def stratified_split(labels: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the images that stay, and of those that are split off, by class.

    `size` is a fraction of the images or their number. A class of several images has at least one
    on each side, whatever the size; the only image of a class stays. The split does not depend on
    params.yaml's seed, so results of different seeds are comparable.
    """
    counts = np.bincount(labels)
    several = np.flatnonzero(counts[labels] > 1)
    taken = np.zeros(len(labels), bool)
    if size and len(several):
        wanted = math.ceil(size * len(several)) if size < 1 else int(size)
        classes = np.count_nonzero(counts > 1)
        number = min(max(wanted, classes), len(several) - classes)
        _, chosen = train_test_split(
            several, test_size=number, stratify=labels[several], random_state=0
        )
        taken[chosen] = True
        counts_taken = np.bincount(labels[chosen], minlength=len(counts))
        one_sided = (counts > 1) & ((counts_taken == 0) | (counts_taken == counts))
        for label in np.flatnonzero(one_sided):
            first = np.argmax(labels == label)
            taken[first] = not taken[first]
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def write_splits(
    dataset: DecodedDataset, validation_fraction: float, folder: Path
) -> dict[str, int]:
    """Write each split to `folder` and return its number of images; warn of doubtful splits.

    `folder`/<split>/images.npy is uint8 [N, C, H, W] and labels.npy int64 [N].
    `folder`/dataset.json holds the name, the class names, mean and standard deviation of the
    training pixels in [0, 1], the shape [C, H, W] of an image, and what it was made from.
    """
    fraction = 0 if dataset.validation else validation_fraction
    train, validation = stratified_split(dataset.train.labels, fraction)
    mean, std = pixel_statistics(dataset.train.images, train)
    splits = {
        "train": (dataset.train, train),
        "validation": (dataset.train, validation),
        "test": (dataset.test, np.arange(len(dataset.test.labels))),
    }
    if dataset.validation:
        splits["validation"] = (dataset.validation, np.arange(len(dataset.validation.labels)))
    labels, digests = {}, {}
    for name, (split, indices) in splits.items():
        save_rows(folder / name / "images.npy", split.images, indices)
        save_rows(folder / name / "labels.npy", split.labels, indices)
        if name != "validation" or fraction or dataset.validation:
            labels[name] = split.labels[indices]
            digests[name] = image_digests(split.images, indices)
    info = {
        "name": dataset.name,
        "classes": dataset.classes,
        "mean": mean,
        "std": std,
        "shape": dataset.train.images.shape[1:],
        "picture": dataset.picture,
    }
    write_json(folder / "dataset.json", info)
    for doubt in doubts(labels, digests, dataset.classes):
        print(f"warning: {doubt}", file=sys.stderr)
    return {name: len(indices) for name, (_, indices) in splits.items()}


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


def image_digests(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Digests uint64 [N] of the indexed images, which are equal where their digests are."""
    digests = [
        blake2b(image, digest_size=8).digest() for chunk in rows(images, indices) for image in chunk
    ]
    return np.frombuffer(b"".join(digests), np.uint64)


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
            file.write(chunk.data)


def rows(array: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Yield `array[indices]` in contiguous chunks of at most CHUNK bytes, or of a single row."""
    step = max(1, CHUNK // array[:1].nbytes)
    for start in range(0, len(indices), step):
        yield np.ascontiguousarray(array[indices[start : start + step]])
