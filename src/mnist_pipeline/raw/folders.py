"""A folder as a source: raw files as they came, unpacked, renamed, or in a root of torchvision.

A file is known by its MD5, whatever its name: Kaggle's zip has a folder train-images-idx3-ubyte
with a file of that name, and a copy of it called train-images.idx3-ubyte.
"""

import os
from contextlib import suppress
from pathlib import Path
from urllib.request import url2pathname

from .cache import md5_of

UNPACKED = {
    # mnist
    "f68b3c2dcbeaaa9fbdd348bbdeb94873": "6bbc9ace898e44ae57da46a324031adb",
    "d53e105ee54ea40749a09fcbcd1e9432": "a25bea736e30d166cdddb491f175f624",
    "9fb629c4189551a2d022fa330f9573f3": "2646ac647ad5339dbf082846283269ea",
    "ec29112dd5afa0611ce80d1b7f02629c": "27ae3e4e09519cfbb04c329615203637",
    # fashion_mnist
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "25c81989df183df01b3e8a0aad5dffbe": "9018921c3c673c538a1fc5bad174d6f9",
    "bef4ecab320f06d8554ea6380940ec79": "8181f5470baa50b63fa0f6fddb340f0a",
    "bb300cfdad3c16e7a12a480ee83cd310": "15d484375f8d13e6eb1aabb0c3f46965",
    # qmnist, whose labels only are known
    "0058f8dd561b90ffdd0f734c6a30e5e4": "1d43300e7f41ddcbf7fd006cbe865af9",
    "5b5b05890a5e13444e108efe57b788aa": "5e00709fb0090091f3afc51d204ad83c",
}
"""MD5 of an archive, and of its content. Without an entry, only the archive can be verified.

Computed from the archives, but for the images of fashion_mnist, whose MD5s several projects list.
"""

LARGEST = 47_040_016
"""Bytes of the largest raw file, the unpacked training images."""

STARTS = (b"\x1f\x8b", b"\0\0\x08", b"\0\0\x0c")
"""First bytes of raw files: gzip, and IDX with each of its dtypes."""

MOST_SHOWN = 8
"""Files of a folder that a message lists."""


def folder_of(source: str) -> str | None:
    """The folder that a source is, by its path or as file:///path; None for other URLs."""
    if "://" not in source:
        with suppress(ValueError):  # ~ and a NUL
            return os.path.expanduser(source)  # noqa: PTH111, which raises for ~nobody
        return source
    scheme, _, path = source.partition("://")
    return url2pathname(path) if scheme.lower() == "file" and path[:1] == "/" else None


def find_raw_file(folder: Path, name: str, md5: str) -> tuple[Path, bool]:
    """Path of the archive `name` with this MD5, and False; or of its content, and True.

    Raises FileNotFoundError: it lists what is there.
    """
    expected = {md5: False} | ({UNPACKED[md5]: True} if md5 in UNPACKED else {})
    files = _files(folder)
    for path in sorted(files, key=lambda path: _plain(path.name) != _plain(name)):
        if _may_be_raw(path) and (found := md5_of(path)) in expected:
            return path, expected[found]
    shown = ", ".join(path.relative_to(folder).as_posix() for path in files[:MOST_SHOWN])
    shown += f" and {len(files) - MOST_SHOWN} more" * (len(files) > MOST_SHOWN)
    forms = "packed or unpacked" if md5 in UNPACKED else "which is known of the packed file only"
    raise FileNotFoundError(f"no file has its MD5, {forms}; found {shown or 'no files'}")


def _files(folder: Path) -> list[Path]:
    """Files of a folder, of its sub-folders, and of their raw/, as in a root of torchvision."""
    paths = [path for pattern in ("*", "*/*", "*/raw/*") for path in sorted(folder.glob(pattern))]
    return [
        path
        for path in paths
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(folder).parts)
    ]


def _plain(name: str) -> str:
    """A file's name without what differs between packed, unpacked and Kaggle's spelling."""
    return name.removesuffix(".gz").replace(".", "-")


def _may_be_raw(path: Path) -> bool:
    """Whether size and first bytes are those of a raw file, so that its MD5 is worth computing."""
    if not 0 < path.stat().st_size <= LARGEST:
        return False
    with path.open("rb") as file:
        return file.read(3).startswith(STARTS)
