"""How a dataset's raw files become a folder that describes itself."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .catalogue import TORCHVISION, class_names, remote_files
from .fetching import RemoteFile, fetch
from .files import sha256, write_json
from .folders import Arrays, read_folder
from .idx import write_idx

PARTS = ("train images", "train labels", "test images", "test labels")


def download(dataset: str, mirrors: Sequence[str], root: Path, folder: Path | None = None) -> None:
    """Make `root` hold a dataset: a root for torchvision's class, and dataset.json to describe it.

    `folder` is where the pictures of the dataset "folder" are. `root` appears when all of it is
    there and verified. Raises UnavailableError; UserError of a folder, see `read_folder`.
    """
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if dataset == "folder":
            if folder is None:
                raise ValueError("the dataset 'folder' needs a folder")
            classes, arrays = read_folder(folder)
            paths = _write_arrays(partial / "Folder/raw", arrays)
        elif dataset == "digits":
            classes, paths = list("0123456789"), _write_arrays(partial / "Digits/raw", _digits())
        else:
            classes = class_names(dataset)
            paths = _fetch_all(remote_files(dataset), mirrors, partial / _raw_folder(dataset))
        write_json(partial / "dataset.json", _description(dataset, classes, partial, paths))
        if root.exists():
            shutil.rmtree(root)
        partial.replace(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _raw_folder(dataset: str) -> str:
    """Where torchvision's class looks for its files, below its root."""
    return f"{TORCHVISION[dataset]}/raw"


def _description(
    dataset: str, classes: Sequence[str], root: Path, paths: Iterable[Path]
) -> dict[str, Any]:
    """What dataset.json says: enough for the later stages to read and to verify the files."""
    files = {
        part: {
            "path": path.relative_to(root).as_posix(),
            "sha256": sha256(path),
        }
        for part, path in zip(PARTS, paths, strict=True)
    }
    return {"dataset": dataset, "classes": classes, "files": files}


def _write_arrays(folder: Path, arrays: Sequence[np.ndarray]) -> list[Path]:
    """IDX files, named as MNIST's, of arrays in the order of PARTS."""
    paths = [folder / file.name.removesuffix(".gz") for file in remote_files("mnist")]
    for path, array in zip(paths, arrays, strict=True):
        write_idx(path, array)
    return paths


def _digits() -> Arrays:
    """scikit-learn's digits (1797 of 8 × 8, values 0 to 16) as 28 × 28 bytes, in PARTS' order.

    Each is enlarged to MNIST's 20 × 20 box in the middle of the image. The last third is the test
    split, unshuffled: the writers come one after the other, and so hardly one is in both splits.
    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.zeros((len(small), 28, 28), np.uint8)
    for image, source in zip(images, small, strict=True):
        enlarged = Image.fromarray(source).resize((20, 20), Image.Resampling.BICUBIC)
        image[4:24, 4:24] = np.asarray(enlarged)
    labels = digits.target.astype(np.uint8)
    test = len(images) - len(images) // 3
    return images[:test], labels[:test], images[test:], labels[test:]


def _fetch_all(files: Sequence[RemoteFile], mirrors: Sequence[str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    unreachable: set[str] = set()
    return [fetch(file, mirrors, folder, unreachable) for file in files]
