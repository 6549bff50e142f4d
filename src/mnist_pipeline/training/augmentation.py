"""Random transforms of the training images, applied to whole batches on their device.

To add an augmentation: a class here, with its settings as keyword-only parameters, its entry in
AUGMENTATIONS, and its block in params.yaml.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..common.settings import ConflictError, Fraction, NotNegative


class Augmentation(Protocol):
    """A transform of images that is given its random numbers instead of generating them."""

    @property
    def noise_size(self) -> int:
        """Number of random numbers per image."""

    def __call__(self, images: Tensor, noise: Tensor) -> Tensor:
        """Images uint8 [B, C, H, W], noise in [0, 1) [noise_size, B] → images, still 0..255."""


class Identity:
    """No augmentation."""

    noise_size = 0

    def __init__(self, shape: Sequence[int]) -> None:
        """`shape` is that of an image, [C, H, W]."""

    def __call__(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return `images`."""
        return images


@dataclass(frozen=True)
class Affine:
    """Random translation, scale, rotation and shear, sampled uniformly per image from ± the range.

    They are applied in this order, and each axis has a scale of its own. torchvision's RandomAffine
    samples once per batch, has one scale, and shears before it rotates. Pixels from outside the
    image are black. Raises ConflictError: a translation out of the image.
    """

    shape: Sequence[int]  # of an image, [C, H, W]
    _: KW_ONLY
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees
    translation: NotNegative  # pixels
    scale: Fraction
    shear: Annotated[float, Field(ge=0, lt=90)]  # degrees

    def __post_init__(self) -> None:
        """Check that the translation stays in the image."""
        side = min(self.shape[1:])
        if self.translation > side:
            raise ConflictError(
                f"augmentations.affine.translation: found {self.translation}, expected at most the"
                f" {side} pixels of an image's side"
            )

    @property
    def noise_size(self) -> int:
        """Rotation, shear, scale in x and y, translation in x and y."""
        return 6

    def __call__(self, images: Tensor, noise: Tensor) -> Tensor:
        """Images [B, C, H, W], noise [6, B] → float32 [B, C, H, W], interpolated bilinearly."""
        height, width = images.shape[-2:]
        ranges = [
            math.radians(self.rotation),
            math.radians(self.shear),
            self.scale,
            self.scale,
            2 * self.translation / width,  # the unit of affine_grid is half a side
            2 * self.translation / height,
        ]
        rotation, shear, scale_x, scale_y, shift_x, shift_y = (
            (2 * sample - 1) * limit for sample, limit in zip(noise, ranges, strict=True)
        )
        cos, sin = rotation.cos(), rotation.sin()
        tan = shear.sin() / shear.cos()  # .tan() rounds differently by CPU vendor
        # affine_grid maps output to input pixels: the inverse of shear · rotation · scale, then
        # the translation.
        matrix = [
            cos / (1 + scale_x),
            (cos * tan - sin) / (1 + scale_x),
            shift_x,
            sin / (1 + scale_y),
            (sin * tan + cos) / (1 + scale_y),
            shift_y,
        ]
        theta = torch.stack(matrix, dim=1).view(-1, 2, 3)  # [B, 2, 3]
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images.float(), grid, align_corners=False)


AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "none": Identity,
    "affine": Affine,
}
