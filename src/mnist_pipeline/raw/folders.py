"""A folder of pictures with one sub-folder per class, as images in MNIST's form or as photos.

The layout is that of torchvision's ImageFolder.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..common.errors import UserError
from .decode import FORMATS, PictureError
from .idx import Arrays
from .prepare import photo, prepare

TEST_FRACTION = 0.2
"""Fraction of each class that becomes the test split if the folder has no train/ and test/."""

SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
"""The split that a folder of this name, in any case, holds."""

MOST_PROBLEMS = 20

Picture = tuple[Path, int]
"""Path and label."""


def read_folder(
    folder: Path, picture: str = "glyph", shape: Sequence[int] = (1, 28, 28)
) -> tuple[list[str], Arrays]:
    """Read every picture, as a "glyph" or a "photo" of `shape` [C, H, W].

    `folder` holds either train/ and test/, each with one sub-folder per class, or the class folders
    themselves, which are then split the same way in every run. Returns the sorted class names and
    the arrays. Raises UserError: no such folder, another layout, fewer than two classes, too few
    pictures; PictureError names all pictures that cannot be used.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise UserError(f"folder: {folder}: found {found}, expected a folder of pictures")
    others: list[Path] = []  # files that are not pictures of a class
    splits = _find_splits(folder)
    if splits:
        others += _visible(folder, files=True)
        classes = _class_names(splits["train"])
        unknown = set(_class_names(splits["test"])) - set(classes)
        if unknown:
            raise UserError(
                f"{splits['test'] / min(unknown)}: {splits['train'].name} has no such class"
            )
        train, test = (
            _list_pictures(splits[split], classes, others) for split in ("train", "test")
        )
    else:
        classes = _class_names(folder)
        train, test = _split(_list_pictures(folder, classes, others), classes, folder)
    if others:
        kinds = Counter(path.suffix.lower() or "no extension" for path in others)
        found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        found += ", ..." * (len(kinds) > 5)
        files = f"{len(others)} file{'s' * (len(others) != 1)}"
        print(f"{folder}: left out {files}, not pictures of a class: {found}")
    images = _read_pictures([path for path, _ in train + test], picture, shape)
    dtype = np.uint8 if len(classes) <= 256 else np.int32
    train_labels, test_labels = (np.array([n for _, n in part], dtype) for part in (train, test))
    return classes, (images[: len(train)], train_labels, images[len(train) :], test_labels)


def _find_splits(folder: Path) -> dict[str, Path]:
    """Folders of the training and the test split; none if `folder` holds the class folders."""
    folders = _visible(folder)
    named = [path for path in folders if path.name.lower() in SPLITS]
    # One class among others may be called "train", but then no class folders are in it.
    if not named or (len(named) == 1 < len(folders) and not _visible(named[0])):
        return {}
    splits = {SPLITS[path.name.lower()]: path for path in named}
    if len(folders) != 2 or set(splits) != {"train", "test"}:
        found = ", ".join(path.name for path in folders)
        hint = ""
        if "validation" in splits:
            name = splits["validation"].name
            hint = (
                f". The validation split is taken from train: move the pictures of {name} there,"
                f" or rename {name} to test if there is no other test split"
            )
        raise UserError(f"{folder}: found {found}, expected only train and test{hint}")
    return splits


def _class_names(folder: Path) -> list[str]:
    """Names of the sub-folders."""
    names = [path.name for path in _visible(folder)]
    if len(names) < 2:
        found = ", ".join(names) or "none"
        raise UserError(
            f"{folder}: found the sub-folders {found}; expected two or more, one per class"
        )
    for name in names:
        if name.encode(errors="replace").decode() != name:
            raise UserError(f"{os.fsencode(folder / name)!r}: expected a name in UTF-8")
    return names


def _visible(folder: Path, files: bool = False) -> list[Path]:
    """The sub-folders, or else the files, that are not hidden, sorted by code point."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name[0] != "." and path.name != "__MACOSX" and path.is_dir() != files
    )


def _walk(folder: Path, visited: set[Path]) -> Iterator[Path]:
    """Yield every file under `folder` in a fixed order; a link to a visited folder is ignored."""
    folder_itself = folder.resolve()
    if folder_itself in visited:
        return
    visited.update((folder_itself, *folder_itself.parents))
    yield from _visible(folder, files=True)
    for path in _visible(folder):
        yield from _walk(path, visited)


def _list_pictures(folder: Path, classes: list[str], others: list[Path]) -> list[Picture]:
    """List every picture of every class in a fixed order; add other files to `others`."""
    known = Image.registered_extensions()
    extensions = {extension for extension, name in known.items() if name in FORMATS}
    pictures: list[Picture] = []
    others += _visible(folder, files=True)
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue  # a class that only train has
        visited = {folder.resolve(), *folder.resolve().parents}
        for path in _walk(folder / name, visited):
            if path.suffix.lower() in extensions:
                pictures.append((path, label))
            else:
                others.append(path)
    if not pictures:
        expected = ", ".join(sorted(extensions))
        raise UserError(f"{folder}: found no pictures, expected file names ending in {expected}")
    return pictures


def _read_pictures(paths: list[Path], picture: str, shape: Sequence[int]) -> np.ndarray:
    """Images uint8 [N, H, W], or [N, 3, H, W] if `shape` has three channels."""
    images = np.empty((len(paths), *shape), np.uint8)
    problems = []
    for index, path in enumerate(tqdm(paths, unit=" pictures", disable=None)):
        try:
            images[index] = prepare(path) if picture == "glyph" else photo(path, shape)
        except PictureError as error:
            problems.append(str(error))
    if len(problems) == 1:
        raise PictureError(problems[0])
    if problems:
        more = len(problems) - MOST_PROBLEMS
        shown = problems[:MOST_PROBLEMS] + [f"and {more} more"] * (more > 0)
        raise PictureError("\n  ".join([f"{len(problems)} pictures cannot be used:", *shown]))
    return images[:, 0] if shape[0] == 1 else images


def _split(pictures: list[Picture], classes: list[str], folder: Path) -> list[list[Picture]]:
    """The training and the test pictures, stratified by class, each in their order."""
    from sklearn.model_selection import train_test_split  # slow to import, and only needed here

    labels = np.array([label for _, label in pictures])
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise UserError(f"{folder / name}: found {counts.min()} pictures, expected two or more")
    test_size = max(len(classes), round(TEST_FRACTION * len(labels)))
    split = train_test_split(
        np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=0
    )
    return [[pictures[index] for index in np.sort(indices)] for indices in split]
