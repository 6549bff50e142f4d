"""Arrays as people have them: .npz with the keys of Keras or MedMNIST, or Kaggle's train.csv."""

import math
import warnings
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from ..common.errors import UserError, printable
from .decoded import DecodedDataset, LabelledImages
from .layout import TEST_FRACTION, check_class_name
from .write import stratified_split

KEYS = {
    "train": [("x_train", "y_train"), ("train_images", "train_labels")],
    "validation": [("x_val", "y_val"), ("val_images", "val_labels")],
    "test": [("x_test", "y_test"), ("test_images", "test_labels")],
}
"""Keys of each split's images and labels: Keras's and MedMNIST's."""

CLASSES = "classes"
"""Key of the names of the classes; without it, they are called by their labels."""


def read_arrays(path: Path, picture: str = "glyph") -> DecodedDataset:
    """Read a .npz file, or a .csv table with a column `label` and one per pixel.

    A validation split is used. Without a test split, a fifth of the training images becomes one,
    stratified by class and the same in every run. Grey images of 28 × 28 pixels count as made from
    what `picture` says, all others as photos. The arrays are in memory.
    Raises UserError, which names the file, the key, what was found and what was expected.
    """
    readers = {".npz": _read_npz, ".csv": _read_table}
    if path.suffix.lower() not in readers:
        raise UserError(f"arrays: {path}: expected a file whose name ends in .npz or .csv")
    try:
        arrays = readers[path.suffix.lower()](path)
    except OSError as error:
        raise UserError(f"arrays: {path}: {error.strerror or error}") from None
    keys = _find_keys(path, arrays)
    splits = {split: _labelled(path, arrays, *pair) for split, pair in keys.items()}
    classes = _class_names(path, splits["train"].labels, arrays.get(CLASSES))
    for split, pair in keys.items():
        _check_fits(path, pair, splits[split], splits["train"], len(classes))
    if "validation" in splits:
        print(f"{path}: has a validation split, so validation_fraction is not used")
    if "test" not in splits:
        print(f"{path}: has no test split; a fifth of the images becomes one, stratified by class")
        images, labels = splits["train"].images, splits["train"].labels
        train, test = stratified_split(labels, TEST_FRACTION)
        if not len(test):
            found = "no test split and one image per class"
            raise UserError(f"{path}: found {found}, expected a class of two or more images")
        splits["train"] = LabelledImages(images[train], labels[train])
        splits["test"] = LabelledImages(images[test], labels[test])
    is_glyph = splits["train"].images.shape[1:] == (1, 28, 28)
    return DecodedDataset("arrays", classes, picture if is_glyph else "photo", **splits)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz file, without pickle; print which keys are left out."""
    known = {key for pairs in KEYS.values() for pair in pairs for key in pair} | {CLASSES}
    arrays, place = {}, f"{path}"
    try:
        with ZipFile(path) as file:
            keys = [name.removesuffix(".npy") for name in file.namelist()]
            for key in filter(known.__contains__, keys):
                place = f"{path}: {key}"
                with file.open(f"{key}.npy") as member:
                    arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
                    member.read()  # up to the end, where zipfile compares the checksum
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged content
        problem = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{place}: {problem}; expected what np.savez writes") from None
    if not {key for pair in KEYS["train"] for key in pair} & arrays.keys():
        found = ", ".join(keys) or "none"
        expected = "x_train and y_train, or train_images and train_labels"
        raise UserError(f"{path}: found the keys {found}; expected {expected}")
    if others := [key for key in keys if key not in known]:
        print(f"{path}: left out the keys {printable(', '.join(others))}")
    return arrays


def _read_table(path: Path) -> dict[str, np.ndarray]:
    """Pixels uint8 [N, H, H] and labels int16 [N] of a table."""
    with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a table without rows
        try:
            first, *others = file.readline().strip().split(",")
            side = math.isqrt(len(others))
            if first.strip('"') != "label" or side**2 != len(others) or not side:
                found = f"{first:.20} and {len(others)} more columns"
                raise UserError(f"{path}: found {found}, expected label and a square of pixels")
            table = np.loadtxt(file, np.int16, delimiter=",", comments=None, ndmin=2)
        except ValueError as error:
            raise UserError(f"{path}: {error!s:.200}; expected integers") from None
    if table.shape[1:] != (1 + len(others),) or not len(table):
        found = f"{len(table)} rows of {table.shape[1]} values"
        raise UserError(f"{path}: found {found}, expected {1 + len(others)}, as in the header")
    pixels = table[:, 1:]
    if pixels.min() < 0 or pixels.max() > 255:
        found = f"{pixels.min()} to {pixels.max()}"
        raise UserError(f"{path}: found pixels from {found}, expected 0 to 255")
    return {"x_train": pixels.astype(np.uint8).reshape(-1, side, side), "y_train": table[:, 0]}


def _find_keys(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, tuple[str, str]]:
    """Keys of the images and labels of each split that is there, by one convention."""
    found = {
        split: [pair for pair in pairs if {*pair} & arrays.keys()] for split, pairs in KEYS.items()
    }
    for split, pairs in found.items():
        if len(pairs) > 1:
            names = ", ".join(key for pair in pairs for key in pair if key in arrays)
            expected = " or ".join(" and ".join(pair) for pair in pairs)
            raise UserError(f"{path}: found {names} for the {split} split, expected {expected}")
    return {split: pairs[0] for split, pairs in found.items() if pairs}


def _labelled(
    path: Path, arrays: dict[str, np.ndarray], images_key: str, labels_key: str
) -> LabelledImages:
    """Images and labels under a pair of keys, if their types and shapes are right."""
    for key in (images_key, labels_key):
        if key not in arrays:
            raise UserError(f"{path}: found no {key}, expected {images_key} and {labels_key}")
    images, labels = arrays[images_key], arrays[labels_key]
    found = f"{path}: {images_key}: found {images.dtype} {images.shape}, expected"
    if images.ndim == 3:
        images = images[..., np.newaxis]
    squares = images.ndim == 4 and images.shape[1] == images.shape[2] and images.size
    if images.dtype != np.uint8 or not squares or images.shape[3] not in (1, 3):
        raise UserError(f"{found} uint8 [N, H, W] or [N, H, W, C], H equal to W, and C 1 or 3")
    found = f"{path}: {labels_key}: found {labels.dtype} {labels.shape}, expected"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise UserError(f"{found} integers [{len(images)}], one per image of {images_key}")
    return LabelledImages(np.moveaxis(images, -1, 1), labels.astype(np.int64))


def _class_names(path: Path, labels: np.ndarray, names: np.ndarray | None) -> list[str]:
    """Names of the classes, each of which has training images."""
    present = np.unique(labels)
    if names is None:
        names = np.arange(len(present)).astype(str)
    if names.dtype.kind != "U" or names.ndim != 1 or len(np.unique(names)) < len(names):
        found = f"{path}: {CLASSES}: found {names.dtype} {names.shape}"
        raise UserError(f"{found}, expected a text per class, all different")
    for name in names.tolist():
        check_class_name(f"{path}: {CLASSES}", name)
    if len(names) < 2 or not np.array_equal(present, np.arange(len(names))):
        found = f"{len(present)} training labels from {present[0]} to {present[-1]}"
        expected = f"each from 0 to {max(1, len(names) - 1)}, as many as classes"
        raise UserError(f"{path}: found {found}, expected {expected}")
    return names.tolist()


def _check_fits(
    path: Path, keys: tuple[str, str], split: LabelledImages, train: LabelledImages, classes: int
) -> None:
    """Raise UserError if images of a split have another shape, or labels beyond the classes."""
    shape, expected = split.images.shape[1:], train.images.shape[1:]
    if shape != expected:
        raise UserError(f"{path}: {keys[0]}: found images [C, H, W] {shape}, expected {expected}")
    low, high = split.labels.min(), split.labels.max()
    if low < 0 or high >= classes:
        found = f"labels from {low} to {high}"
        raise UserError(f"{path}: {keys[1]}: found {found}, expected 0 to {classes - 1}")
