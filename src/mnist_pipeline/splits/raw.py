"""Read the raw files of a dataset in MNIST's format."""

import json
from pathlib import Path

import numpy as np

from ..common.errors import UserError
from ..common.files import sha256
from ..raw.idx import PARTS, read_idx
from .decoded import DecodedDataset, LabelledImages


class DamagedFileError(UserError):
    """A raw file whose content is not what it should be."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}.\nDownload it again: dvc repro --force --single-item download"
        )


def read_raw(folder: Path, dataset: str) -> DecodedDataset:
    """Read the files that `download` wrote for a dataset, and verify their checksums.

    Raises UserError: it names the file, what was found and what was expected.
    """
    path = folder / "dataset.json"
    try:
        description = json.loads(path.read_text("utf-8"))
        if description["name"] != dataset:
            found = f"found the raw files of {description['name']}, expected those of {dataset}"
            raise UserError(f"{path}: {found}; 'dvc repro download' writes them")
        classes, files = description["classes"], description["files"]
        paths = {part: folder / files[part]["path"] for part in PARTS}
        checksums = {part: files[part]["sha256"] for part in PARTS}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; 'dvc repro download' writes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(path, f"not what download writes ({error!r})") from None
    for part, file in paths.items():
        found = f"SHA-256 {sha256(file)}" if file.is_file() else "no file"
        expected = f"SHA-256 {checksums[part]}"
        if found != expected:
            raise DamagedFileError(file, f"found {found[:20]}, expected {expected[:20]}")
    train, test = (
        _read_split(paths[f"{split}-images"], paths[f"{split}-labels"], len(classes))
        for split in ("train", "test")
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        problem = (
            f"found images of {test.images.shape[1:]}, expected {train.images.shape[1:]}, as those"
            f" of {paths['train-images'].name}"
        )
        raise DamagedFileError(paths["test-images"], problem)
    return DecodedDataset(dataset, classes, "glyph", train, test)


def _read_split(images_path: Path, labels_path: Path, num_classes: int) -> LabelledImages:
    """Memory-map one split and check that its arrays fit together."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    if labels.ndim == 2:
        labels = labels[:, 0]  # QMNIST's further columns tell who wrote the digit
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
        expected = f"uint8 ({len(labels)}, [C,] H, W), one image per label"
        raise DamagedFileError(
            images_path, f"found {images.dtype} {images.shape}, expected {expected}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        found = f"{labels.min()} to {labels.max()}"
        raise DamagedFileError(
            labels_path, f"found labels {found}, expected 0 to {num_classes - 1}"
        )
    if images.ndim == 3:
        images = images[:, np.newaxis]
    return LabelledImages(images, labels.astype(np.int64))
