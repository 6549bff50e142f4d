"""A folder of pictures with one sub-folder per class, as images in MNIST's form.

The layout and the file formats are those of torchvision's ImageFolder.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.errors import UserError
from .prepare import SIZE, prepare

TEST_FRACTION = 0.2
"""Fraction of each class that becomes the test split if the folder has no train/ and test/."""

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Training images uint8 [N, 28, 28] and labels [N], then the same for the test split."""


def read_folder(folder: Path) -> tuple[list[str], Arrays]:
    """Read and prepare every picture; return the sorted class names and the arrays.

    `folder` holds either train/ and test/, each with one sub-folder per class, or the class folders
    themselves, which are then split the same way in every run. Raises UserError: no such folder,
    fewer than two classes, too few pictures; PictureError names a picture that cannot be used.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise UserError(f"folder: {folder}: found {found}, expected a folder of pictures")
    names = _class_names(folder)
    if {"train", "test"} <= set(names):
        if len(names) > 2:
            raise UserError(f"{folder}: found {', '.join(names)}, expected only train and test")
        classes = _class_names(folder / "train")
        unknown = set(_class_names(folder / "test")) - set(classes)
        if unknown:
            raise UserError(f"{folder / 'test' / min(unknown)}: train has no such class")
        train, train_labels = _prepare_all(_list_pictures(folder / "train", classes))
        test, test_labels = _prepare_all(_list_pictures(folder / "test", classes))
        return classes, (train, train_labels, test, test_labels)
    images, labels = _prepare_all(_list_pictures(folder, names))
    train_indices, test_indices = _split(labels, names, folder)
    return names, (
        images[train_indices],
        labels[train_indices],
        images[test_indices],
        labels[test_indices],
    )


def _class_names(folder: Path) -> list[str]:
    """Names of the visible sub-folders, sorted by code point."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(names) < 2:
        found = ", ".join(names) or "none"
        raise UserError(
            f"{folder}: found the sub-folders {found}; expected two or more, one per class"
        )
    for name in names:
        if name.encode(errors="replace").decode() != name:
            raise UserError(f"{os.fsencode(folder / name)!r}: expected a name in UTF-8")
    return names


def _list_pictures(folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """Path and label of every picture, in a fixed order."""
    from torchvision.datasets import folder as image_folder  # takes seconds to import

    labels = {name: label for label, name in enumerate(classes)}
    pictures = image_folder.make_dataset(
        folder, labels, extensions=image_folder.IMG_EXTENSIONS, allow_empty=True
    )
    if not pictures:
        expected = ", ".join(image_folder.IMG_EXTENSIONS)
        raise UserError(f"{folder}: found no pictures, expected file names ending in {expected}")
    return pictures


def _prepare_all(pictures: list[tuple[str, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 28, 28]; labels uint8 [N], or int32 if there are more than 256 classes."""
    images = np.empty((len(pictures), SIZE, SIZE), np.uint8)
    for index, (path, _) in enumerate(tqdm(pictures, unit=" pictures", disable=None)):
        images[index] = prepare(Path(path))
    labels = np.array([label for _, label in pictures])
    return images, labels.astype(np.uint8 if labels.max() < 256 else np.int32)


def _split(labels: np.ndarray, classes: list[str], folder: Path) -> Iterable[np.ndarray]:
    """Sorted indices of the training and the test images, stratified by class."""
    from sklearn.model_selection import train_test_split  # slow to import, and only needed here

    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise UserError(f"{folder / name}: found {counts.min()} pictures, expected two or more")
    test_size = max(len(classes), round(TEST_FRACTION * len(labels)))
    split = train_test_split(
        np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=0
    )
    return [np.sort(indices) for indices in split]
