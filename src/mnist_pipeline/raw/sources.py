"""Where raw images come from: torchvision's datasets, the embedded digits, a folder of pictures."""

import errno
import shutil
import socket
import sys
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
from PIL import Image

from ..common.errors import UserError
from ..common.files import sha256, temporary_path, write_json
from .folders import read_folder
from .idx import PARTS, Arrays, write_idx

TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
}
"""Datasets in MNIST's format and their classes in torchvision.datasets."""

TIMEOUT = 10
"""Seconds without a byte after which a connection has failed, to each address of a host."""


class UnavailableError(UserError):
    """No source provides the raw files."""


class UnreachableError(UnavailableError):
    """No source could be reached, or all of them answered with a server error."""

    exit_code = 69  # EX_UNAVAILABLE in sysexits.h


def download(
    dataset: str,
    mirrors: Sequence[str],
    root: Path,
    folder: Path = Path("data/none"),
    picture: str = "glyph",
    shape: Sequence[int] = (1, 28, 28),
) -> None:
    """Write a dataset's raw files and dataset.json, which describes them, to `root`.

    `root` is a root for torchvision's dataset class and appears only when complete and verified.
    `folder` holds the pictures of the dataset "folder", which become glyphs or, if `picture` is
    "photo", images of `shape` [C, H, W]. Raises UnavailableError; UserError as in `read_folder`.
    """
    with temporary_path(root) as partial:
        if dataset in TORCHVISION:
            classes, paths = _fetch(dataset, mirrors, partial)
        else:
            classes, arrays = (
                _digits() if dataset == "digits" else read_folder(folder, picture, shape)
            )
            paths = [partial / dataset / f"{part}.idx" for part in PARTS]
            for path, array in zip(paths, arrays, strict=True):
                write_idx(path, array)
        files = {
            part: {"path": path.relative_to(partial).as_posix(), "sha256": sha256(path)}
            for part, path in zip(PARTS, paths, strict=True)
        }
        description = {"name": dataset, "classes": classes, "picture": picture, "files": files}
        write_json(partial / "dataset.json", description)
        shutil.rmtree(root, ignore_errors=True)
        partial.replace(root)


def torchvision_class(dataset: str) -> Any:
    """The class in torchvision.datasets that defines a dataset's files and class names."""
    from torchvision import datasets  # takes seconds, and the other datasets do not need it

    return getattr(datasets, TORCHVISION[dataset])


def remote_files(dataset: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The sites of a dataset, and the name and MD5 of each of its files in the order of PARTS."""
    known = torchvision_class(dataset)
    if dataset != "qmnist":
        return known.mirrors, known.resources
    urls = [*known.resources["train"], *known.resources["test"]]  # QMNIST has full URLs, no mirrors
    site = urls[0][0].rpartition("/")[0]
    return [site], [(url.rpartition("/")[2], md5) for url, md5 in urls]


def _fetch(dataset: str, mirrors: Sequence[str], root: Path) -> tuple[list[str], list[Path]]:
    """Download, verify and unpack a dataset with torchvision; return its classes and files.

    A source is a URL prefix or a folder: `mirrors` first, then the dataset's own sites. If one
    fails, for whatever reason, a warning line says so, and the next one is asked for the files that
    are still missing. Raises UnavailableError when all have failed.
    """
    folder = root / TORCHVISION[dataset] / "raw"
    folder.mkdir(parents=True)
    sites, files = remote_files(dataset)
    missing = list(files)
    failures: list[SourceError] = []
    socket.setdefaulttimeout(TIMEOUT)  # for the whole process: torchvision takes no timeout
    for source in (*mirrors, *sites):
        try:
            _fetch_from(source, missing, folder)
        except SourceError as failure:
            failures.append(failure)
            print(f"warning: {failure}", file=sys.stderr)
        else:
            # "7 - seven" is shortened to "7"
            classes = [name.split(" - ")[0] for name in torchvision_class(dataset).classes]
            return classes, [folder / name.removesuffix(".gz") for name, _ in files]
    tried = "\n".join(f"  {failure}" for failure in failures)
    answered = any(failure.answered for failure in failures)
    raise (UnavailableError if answered else UnreachableError)(
        f"{dataset}: no source has all of the raw files:\n{tried}\n"
        "Name a mirror that has them, a URL prefix or a folder: MNIST_MIRROR=... dvc repro\n"
        "or use the embedded digits, which need no network: dvc exp run -S dataset=digits"
    )


class SourceError(Exception):
    """A source does not provide a file.

    `answered`: it could be reached, and sent other content or an HTTP status below 500.
    """

    def __init__(self, message: str, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered


def _fetch_from(source: str, missing: list[tuple[str, str]], folder: Path) -> None:
    """Fetch the files in `missing`, pairs of name and MD5; each is removed once it is verified.

    Raises SourceError; OSError if the disk is full.
    """
    from torchvision.datasets import utils

    while missing:
        name, md5 = missing[0]
        archive = folder / name
        try:
            if source.startswith(("http://", "https://")):
                utils.download_url(f"{source.rstrip('/')}/{name}", folder, name, md5)
            else:
                shutil.copy(Path(source).expanduser() / name, archive)
            if not utils.check_integrity(archive, md5):
                raise RuntimeError  # as download_url does
            utils.extract_archive(archive, remove_finished=True)
        except (OSError, RuntimeError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            answered = isinstance(error, RuntimeError) or (
                isinstance(error, HTTPError) and error.code < 500
            )
            raise SourceError(f"{name} from {source}: {_reason(error)}", answered) from None
        missing.pop(0)


def _reason(error: Exception) -> str:
    """Why a source failed, on one line."""
    if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
        return "the MD5 of the file is wrong"
    if isinstance(error, HTTPError):
        return f"answered {error.code} {error.reason}"
    cause = getattr(error, "reason", error)  # URLError wraps what happened
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _digits() -> tuple[list[str], Arrays]:
    """scikit-learn's 1,797 digits, 8 × 8 with values 0 to 16, as uint8 [N, 28, 28].

    Each digit is enlarged to MNIST's 20 × 20 box in the middle of the image. The last third is the
    test split, unshuffled: the file is ordered by writer, so few writers are in both splits.
    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.zeros((len(small), 28, 28), np.uint8)
    for image, source in zip(images, small, strict=True):
        enlarged = Image.fromarray(source).resize((20, 20), Image.Resampling.BICUBIC)
        image[4:24, 4:24] = np.asarray(enlarged)
    labels = digits.target.astype(np.uint8)
    test = len(images) - len(images) // 3
    return list("0123456789"), (images[:test], labels[:test], images[test:], labels[test:])
