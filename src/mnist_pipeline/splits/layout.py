"""Which pictures a folder holds, laid out as for torchvision's ImageFolder."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.errors import CONTROL, UserError, printable
from ..handwriting.decode import FORMATS
from .write import stratified_split

TEST_FRACTION = 0.2
"""Fraction of each class that becomes the test split if the folder has no train/ and test/."""

SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
"""The split that a folder of this name, in any case, holds."""

MOST_LINKS = 20
"""Links that an error lists."""

Picture = tuple[Path, int]
"""Path and label."""


@dataclass(frozen=True)
class Layout:
    """Pictures of the training and the test split, and the sorted names of their classes."""

    classes: list[str]
    train: list[Picture]
    test: list[Picture]


def find_pictures(folder: Path) -> Layout:
    """List the pictures under `folder`; print how many files are none.

    Raises UserError: no such folder, another layout, links to folders, fewer than two classes, too
    few pictures.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise UserError(f"folder: {folder}: found {found}, expected a folder of pictures")
    _refuse_links(folder)
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
    _count_others(folder, others)
    return Layout(classes, train, test)


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
        check_class_name(f"{folder}", name)
    return names


def check_class_name(place: str, name: str) -> None:
    """Raise UserError if a file cannot hold the name of a class, or no terminal can show it."""
    if not name or name.encode(errors="replace").decode() != name or CONTROL.search(name):
        expected = "a name without control characters, in UTF-8 and not empty"
        raise UserError(f"{place}: found the class {name!a}, expected {expected}")


def _visible(folder: Path, files: bool = False) -> list[Path]:
    """The sub-folders, or else the files, that are not hidden, sorted by code point."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name[0] != "." and path.name != "__MACOSX" and path.is_dir() != files
    )


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file under `folder` in a fixed order."""
    yield from _visible(folder, files=True)
    for path in _visible(folder):
        yield from _walk(path)


def _list_pictures(folder: Path, classes: list[str], others: list[Path]) -> list[Picture]:
    """List every picture of every class in a fixed order; add other files to `others`."""
    known = Image.registered_extensions()
    extensions = {extension for extension, name in known.items() if name in FORMATS}
    pictures: list[Picture] = []
    others += _visible(folder, files=True)
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue  # a class that only train has
        for path in _walk(folder / name):
            if path.suffix.lower() in extensions:
                pictures.append((path, label))
            else:
                others.append(path)
    if not pictures:
        expected = ", ".join(sorted(extensions))
        raise UserError(f"{folder}: found no pictures, expected file names ending in {expected}")
    return pictures


def _refuse_links(folder: Path) -> None:
    """Raise UserError if there are links to folders: DVC would not notice changes behind them."""
    links = [path.relative_to(folder).as_posix() for path in _links(folder)]
    if links:
        shown = ", ".join(links[:MOST_LINKS]) + ", ..." * (len(links) > MOST_LINKS)
        raise UserError(
            f"{folder}: found links to folders: {shown}. DVC does not look into them, so it would"
            " not notice changed pictures; put a copy of the folder in place of each link"
        )


def _links(folder: Path) -> Iterator[Path]:
    """Yield every link to a folder under `folder`."""
    for path in _visible(folder):
        if path.is_symlink():
            yield path
        else:
            yield from _links(path)


def _count_others(folder: Path, others: list[Path]) -> None:
    """Print how many files are not pictures of a class, by extension."""
    if others:
        kinds = Counter(path.suffix.lower() or "no extension" for path in others)
        found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        found += ", ..." * (len(kinds) > 5)
        files = f"{len(others)} file{'s' * (len(others) != 1)}"
        print(f"{folder}: left out {files}, not pictures of a class: {printable(found)}")


def _split(pictures: list[Picture], classes: list[str], folder: Path) -> list[list[Picture]]:
    """The training and the test pictures, stratified by class, each in their order."""
    labels = np.array([label for _, label in pictures])
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise UserError(f"{folder / name}: found {counts.min()} pictures, expected two or more")
    split = stratified_split(labels, round(TEST_FRACTION * len(labels)))
    return [[pictures[index] for index in indices] for indices in split]
