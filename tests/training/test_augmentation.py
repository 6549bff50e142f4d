"""Augmentation: what each range does, measured on the images that come out."""

import math

import pytest
import torch
from torch import Tensor

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.training.augmentation import AUGMENTATIONS, Affine

from .test_optimizers import PARAMS

SHAPE = (1, 28, 28)
NOISE = torch.rand((6, 200), generator=torch.Generator().manual_seed(0))


def affine(rotation: float, translation: float, scale: float, shear: float) -> Affine:
    return Affine(SHAPE, rotation=rotation, translation=translation, scale=scale, shear=shear)


def bar() -> Tensor:
    """Images [200, 1, 28, 28] of an upright, off-centre bar."""
    images = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 6:20, 15:19] = 255
    return images


def test_every_augmentation_of_params_can_be_built() -> None:
    for name, build in AUGMENTATIONS.items():
        augmentation = build(SHAPE, **PARAMS.augmentations[name])
        augmented = augmentation(bar(), NOISE[: augmentation.noise_size])
        assert augmented.shape == bar().shape


def test_with_ranges_of_zero_nothing_changes() -> None:
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    augmented = affine(0, 0, 0, 0)(images, NOISE[:, :5])
    torch.testing.assert_close(augmented, images.float(), rtol=0, atol=0.01)


def test_all_channels_move_together() -> None:
    transform = affine(10, 2, 0.1, 5)
    augmented = transform(bar().expand(-1, 3, -1, -1), NOISE)
    assert torch.equal(augmented, transform(bar(), NOISE).expand(-1, 3, -1, -1))


def test_each_image_follows_its_own_noise_whatever_batch_it_is_in() -> None:
    transform = affine(10, 2, 0.1, 5)
    augmented = transform(bar(), NOISE)
    assert len(torch.unique(augmented, dim=0)) == 200
    assert torch.equal(augmented[70:90], transform(bar()[70:90], NOISE[:, 70:90]))


def moments(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Centre x, y, extent (standard deviation) x, y and covariance of the ink, float64 [N]."""
    ink = images[:, 0].double() / images[:, 0].double().sum((1, 2), keepdim=True)
    grid = torch.arange(28, dtype=torch.float64)
    x, y = (ink.sum(1) * grid).sum(1), (ink.sum(2) * grid).sum(1)
    dx, dy = grid - x[:, None], grid - y[:, None]
    var_x, var_y = (ink.sum(1) * dx**2).sum(1), (ink.sum(2) * dy**2).sum(1)
    return x, y, var_x.sqrt(), var_y.sqrt(), (ink * dy[:, :, None] * dx[:, None, :]).sum((1, 2))


def test_translation_moves_by_up_to_so_many_pixels() -> None:
    x, y, *_ = moments(affine(0, 3, 0, 0)(bar(), NOISE))
    for moved in (x - 16.5, y - 12.5):
        assert moved.abs().max() <= 3.01
        assert moved.min() < -2.5
        assert moved.max() > 2.5
    assert torch.corrcoef(torch.stack([x, y]))[0, 1].abs() < 0.3


def test_scale_stretches_each_side_for_itself() -> None:
    _, _, wide, high, _ = moments(affine(0, 0, 0.2, 0)(bar(), NOISE))
    _, _, wide_before, high_before, _ = moments(bar())
    for ratio in (wide / wide_before, high / high_before):
        assert ratio.min() == pytest.approx(0.8, abs=0.06)
        assert ratio.max() == pytest.approx(1.2, abs=0.06)
    assert torch.corrcoef(torch.stack([wide, high]))[0, 1].abs() < 0.3


def test_rotation_turns_by_up_to_so_many_degrees_and_keeps_the_shape() -> None:
    _, _, wide, high, covariance = moments(affine(30, 0, 0, 0)(bar(), NOISE))
    angle = 0.5 * torch.atan2(2 * covariance, high**2 - wide**2).rad2deg()
    assert angle.abs().max() <= 31
    assert angle.min() < -27
    assert angle.max() > 27
    _, _, wide_before, high_before, _ = moments(bar())
    torch.testing.assert_close(
        wide**2 + high**2, wide_before**2 + high_before**2, rtol=0.05, atol=0
    )


def test_shear_slants_and_keeps_the_height() -> None:
    _, _, _, high, covariance = moments(affine(0, 0, 0, 20)(bar(), NOISE))
    slant = covariance / high**2
    assert slant.abs().max() == pytest.approx(math.tan(math.radians(20)), rel=0.1)
    assert slant.min() < -0.3
    assert slant.max() > 0.3
    torch.testing.assert_close(high, moments(bar())[3], rtol=0.02, atol=0)


def test_a_translation_out_of_the_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"affine.translation: found 29, expected at most the 28"):
        affine(0, 29, 0, 0)
