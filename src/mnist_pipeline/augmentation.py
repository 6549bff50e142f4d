"""Training images altered at random, a whole batch at once, on the device it is on.

To add an augmentation: a class here, in AUGMENTATIONS, and its settings in params.py and
params.yaml.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Augmentation(Protocol):
    """A function of images and of random draws, so that it draws nothing itself."""

    @property
    def draws(self) -> int:
        """How many draws an image needs."""

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images uint8 [B, 1, H, W], draws in [0, 1) [draws, B] → images, still 0..255."""


class Unchanged:
    """The images as they are."""

    draws = 0

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """`images`."""
        return images


@dataclass(frozen=True)
class Affine:
    """Each image turned, moved, stretched and slanted, by uniform draws of its own from ± ranges.

    What comes in from outside the image is black. The transformations are those of torchvision's
    RandomAffine, which draws once a batch.
    """

    rotation: float  # degrees
    translation: float  # pixels
    scale: float  # a fraction
    shear: float  # degrees

    @property
    def draws(self) -> int:
        """One for each of the angle, the slant, and width, height and place in both directions."""
        return 6

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images [B, 1, H, W], draws [6, B] → float32 like the images, sampled bilinearly."""
        height, width = images.shape[-2:]
        ranges = [
            math.radians(self.rotation),
            math.radians(self.shear),
            self.scale,
            self.scale,
            2 * self.translation / width,  # affine_grid's unit is half a side
            2 * self.translation / height,
        ]
        angle, slant, wider, higher, right, down = (
            (2 * draw - 1) * limit for draw, limit in zip(draws, ranges, strict=True)
        )
        cos, sin, tan = angle.cos(), angle.sin(), slant.tan()
        # Where each output pixel comes from: the inverse of turn x slant x stretch, then the move.
        rows = [
            cos / (1 + wider),
            (cos * tan - sin) / (1 + wider),
            right,
            sin / (1 + higher),
            (sin * tan + cos) / (1 + higher),
            down,
        ]
        theta = torch.stack(rows, dim=1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images.float(), grid, align_corners=False)


AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "none": Unchanged,
    "affine": Affine,
}
