"""Download raw files: from a cache of the user, mirrors, or the sites that torchvision knows."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ..common.errors import UserError, printable
from ..common.files import sha256, temporary_path, write_json
from ..common.settings import OneOf, Settings
from .cache import Cache
from .fetch import SourceError, fetch
from .folders import UNPACKED
from .idx import PARTS

TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
}
"""Datasets in MNIST's format and their classes in torchvision.datasets."""

OWN_DATA = {"folder": "a folder of pictures", "arrays": "a .npz or .csv file"}
"""Datasets of the user, each the name of the setting that has its path, and what is there."""

DATASETS = {**TORCHVISION, "digits": None, **dict.fromkeys(OWN_DATA)}
"""All datasets; those without a class need no download, and `preprocess` reads them."""

NO_DATA = "data/none"
"""Value of `folder` and `arrays` when the dataset is another: a file that never changes."""


def check_path(path: str) -> str:
    """Refuse ~: DVC takes the path as it is written, and looks for a folder of this name."""
    home = os.path.expanduser(path)  # noqa: PTH111, which raises for ~nobody
    if path.startswith("~"):
        expected = "a path without ~" if home == path else home
        raise PydanticCustomError("home", "{expected}: DVC knows no ~", {"expected": expected})
    return path


OwnPath = Annotated[str, Field(min_length=1), AfterValidator(check_path)]


class DatasetSettings(Settings):
    """Where images come from; the first stage refuses what a later one cannot use."""

    dataset: Annotated[str, OneOf(DATASETS)]
    folder: OwnPath
    arrays: OwnPath

    @model_validator(mode="after")
    def _each_path_needs_its_dataset(self) -> "DatasetSettings":
        for name, expected in OWN_DATA.items():
            path = getattr(self, name)
            if (self.dataset == name) == (path == NO_DATA):
                raise PydanticCustomError(
                    "conflict",
                    "dataset: {name} needs {expected}, and any other dataset {name}: {none};"
                    " found dataset: {dataset}, {name}: {path}",
                    {"name": name, "expected": expected, "none": NO_DATA}
                    | {"dataset": self.dataset, "path": path},
                )
        return self


class DownloadSettings(DatasetSettings):
    """Settings of the download stage."""

    mirrors: list[str]


class UnavailableError(UserError):
    """No source provides the raw files."""


class UnreachableError(UnavailableError):
    """No source could be reached, or all of them answered with a server error."""

    exit_code = 69  # EX_UNAVAILABLE in sysexits.h


def download(dataset: str, mirrors: Sequence[str], root: Path) -> None:
    """Write a dataset's raw files and dataset.json, which describes them, to `root`.

    `root` is a root for torchvision's dataset class and appears only when complete and verified.
    Of a dataset without raw files, dataset.json has only the name. Raises UnavailableError.
    """
    with temporary_path(root) as partial:
        description: dict[str, Any] = {"name": dataset}
        if dataset in TORCHVISION:
            classes, paths = _fetch(dataset, mirrors, partial)
            files = {
                part: {"path": path.relative_to(partial).as_posix(), "sha256": sha256(path)}
                for part, path in zip(PARTS, paths, strict=True)
            }
            description |= {"classes": classes, "files": files}
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
    """Download, verify and unpack a dataset; return its classes and files.

    The user's cache comes first. Then come the sources, each a URL prefix or a folder: `mirrors`,
    then the dataset's own sites. If one fails, for whatever reason, a warning line says so, and the
    next one is asked for the files that are still missing. Raises UnavailableError when all have
    failed.
    """
    folder = root / TORCHVISION[dataset] / "raw"
    folder.mkdir(parents=True)
    sites, files = remote_files(dataset)
    cache = Cache.of_user()
    missing = [(name, md5) for name, md5 in files if not _unpack_cached(cache, name, md5, folder)]
    failures: list[SourceError] = []
    for source in (*mirrors, *sites):
        try:
            _fetch_from(source, missing, folder, cache)
        except SourceError as failure:
            failures.append(failure)
            print(f"warning: {printable(str(failure))}", file=sys.stderr)
        else:
            # "7 - seven" is shortened to "7"
            classes = [name.split(" - ")[0] for name in torchvision_class(dataset).classes]
            return classes, [folder / name.removesuffix(".gz") for name, _ in files]
    tried = "\n".join(f"  {failure}" for failure in failures)
    answered = any(failure.answered for failure in failures)
    raise (UnavailableError if answered else UnreachableError)(
        f"{dataset}: no source has all of the raw files:\n{tried}\n"
        "Name a mirror that has them, a URL prefix or a folder: MNIST_MIRROR=... dvc repro\n"
        "or use the embedded digits, which need no network: dvc exp run $(cat recipes/digits)"
    )


def _unpack_cached(cache: Cache, name: str, md5: str, folder: Path) -> bool:
    """Write the content of a file from the cache to `folder`; return whether the cache has it."""
    archive = folder / name
    if cache.get(md5, archive):
        _unpack(archive)
        return True
    return md5 in UNPACKED and cache.get(UNPACKED[md5], archive.with_suffix(""))


def _fetch_from(source: str, missing: list[tuple[str, str]], folder: Path, cache: Cache) -> None:
    """Fetch the files in `missing`, pairs of name and MD5; each is removed once it is verified.

    Raises SourceError; OSError if the disk is full.
    """
    while missing:
        name, md5 = missing[0]
        fetched = fetch(source, name, md5, folder / name)
        if fetched.name == name:
            cache.put(md5, fetched)
            _unpack(fetched)
        else:
            cache.put(UNPACKED[md5], fetched)
        missing.pop(0)


def _unpack(archive: Path) -> None:
    """Replace a .gz file by its content."""
    from torchvision.datasets import utils

    utils.extract_archive(archive, remove_finished=True)
