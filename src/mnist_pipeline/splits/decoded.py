"""A dataset in memory or memory-mapped, decoded and not yet split into train and validation."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelledImages:
    """Images uint8 [N, C, H, W] and labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class DecodedDataset:
    """What the splits are made from; without `validation`, its images are taken from `train`."""

    name: str
    classes: list[str]
    picture: str  # what the images were made from, glyph or photo
    train: LabelledImages
    test: LabelledImages
    validation: LabelledImages | None = None
