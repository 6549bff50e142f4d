"""A folder of pictures, a sub-folder a class → images in MNIST's form, for training and testing.

The convention is that of torchvision's ImageFolder. The picture formats are those it knows.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .errors import UserError
from .prepare import SIZE, prepare

TEST_FRACTION = 0.2
"""Of a folder that isn't split: what becomes the test split, of each class."""

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Train images uint8 [N, 28, 28] and labels [N], then the same of the test split."""


def read_folder(folder: Path) -> tuple[list[str], Arrays]:
    """The class names, sorted, and every picture prepared.

    `folder` holds either train/ and test/, each with a sub-folder a class, or the classes' folders
    themselves; these are split, the same in every run. Raises UserError: no such folder, fewer than
    two classes, too few pictures; PictureError that names the picture.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise UserError(f"folder: {folder}: found {found}, expected a folder of pictures")
    names = _classes(folder)
    if {"train", "test"} <= set(names):
        if len(names) > 2:
            raise UserError(f"{folder}: found {', '.join(names)}, expected train and test alone")
        classes = _classes(folder / "train")
        unknown = set(_classes(folder / "test")) - set(classes)
        if unknown:
            raise UserError(f"{folder / 'test' / min(unknown)}: train has no such class")
        train, train_labels = _read(_pictures(folder / "train", classes))
        test, test_labels = _read(_pictures(folder / "test", classes))
        return classes, (train, train_labels, test, test_labels)
    images, labels = _read(_pictures(folder, names))
    first, last = _split(labels, names, folder)
    return names, (images[first], labels[first], images[last], labels[last])


def _classes(folder: Path) -> list[str]:
    """The names of the sub-folders that aren't hidden, in the order of their code points."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(names) < 2:
        found, expected = ", ".join(names) or "none", "two or more, one for each class's pictures"
        raise UserError(f"{folder}: found the sub-folders {found}; expected {expected}")
    for name in names:
        if name.encode(errors="replace").decode() != name:
            raise UserError(f"{os.fsencode(folder / name)!r}: expected a name in UTF-8")
    return names


def _pictures(folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """The path and label of each picture, in a fixed order."""
    # Here, because it takes seconds, and the other datasets don't need it.
    from torchvision.datasets import folder as image_folder

    numbers: Mapping[str, int] = {name: number for number, name in enumerate(classes)}
    pictures = image_folder.make_dataset(
        folder, dict(numbers), extensions=image_folder.IMG_EXTENSIONS, allow_empty=True
    )
    if not pictures:
        expected = ", ".join(image_folder.IMG_EXTENSIONS)
        raise UserError(f"{folder}: found no pictures; their names end in one of {expected}")
    return pictures


def _read(pictures: list[tuple[str, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The images uint8 [N, 28, 28], and the labels: uint8 or, of more than 256 classes, int32."""
    images = np.empty((len(pictures), SIZE, SIZE), np.uint8)
    for number, (path, _) in enumerate(tqdm(pictures, unit=" pictures", disable=None)):
        images[number] = prepare(Path(path))
    labels = np.array([label for _, label in pictures])
    return images, labels.astype(np.uint8 if labels.max() < 256 else np.int32)


def _split(labels: np.ndarray, classes: list[str], folder: Path) -> Iterable[np.ndarray]:
    """Ascending indices of the training and of the test images, each class in proportion."""
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise UserError(f"{folder / name}: found {counts.min()} pictures, expected two or more")
    indices = np.arange(len(labels))
    test = max(len(classes), round(TEST_FRACTION * len(labels)))
    split = train_test_split(indices, test_size=test, stratify=labels, random_state=0)
    return [np.sort(part) for part in split]
