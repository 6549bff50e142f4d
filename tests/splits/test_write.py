"""Decoded images → splits: stratified, independent of everything but the data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from mnist_pipeline.splits.batches import load_info, load_split
from mnist_pipeline.splits.decoded import DecodedDataset, LabelledImages
from mnist_pipeline.splits.digits import read_digits
from mnist_pipeline.splits.write import (
    CHUNK,
    pixel_statistics,
    save_rows,
    stratified_split,
    write_splits,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(20, 60), min_size=2, max_size=10), st.floats(0.1, 0.9))
def test_every_image_is_in_one_split_and_each_class_in_proportion(
    counts: list[int], fraction: float
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    train, validation = stratified_split(labels, fraction)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        assert abs((labels[validation] == label).sum() - fraction * count) <= 1.5
    expected = train_test_split(
        labels, np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=0
    )[3]
    assert validation.tolist() == sorted(expected)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 4) | st.just(200), min_size=2, max_size=10),
    st.floats(0.01, 0.9) | st.integers(1, 50),
)
def test_a_class_of_several_images_is_on_both_sides(counts: list[int], size: float) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    train, validation = stratified_split(labels, size)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    taken = np.bincount(labels[validation], minlength=len(counts)).tolist()
    for number, count in zip(taken, counts, strict=True):
        assert (0 < number < count) if count > 1 else number == 0


def test_fraction_zero_trains_on_everything() -> None:
    train, validation = stratified_split(np.arange(10), 0)
    assert (train.tolist(), validation.tolist()) == (list(range(10)), [])


def pixels(split: str) -> LabelledImages:
    """Images of one pixel: "a1 b1" are of the classes a and b, and equal."""
    names, shades = zip(*map(tuple, split.split()), strict=True)
    images = np.array([int(shade) for shade in shades], np.uint8).reshape(-1, 1, 1, 1)
    return LabelledImages(images, np.array(["abc".index(name) for name in names]))


@pytest.mark.parametrize(
    ("train", "test", "fraction", "expected"),
    [
        ("a1 a2 b3 b4 c5 c6", "a7 b8 c9", 0.5, []),
        ("a1 b3 c5", "a7 b8 c9", 0, []),
        (
            "a1 b3 b4 c5", "a7 b8 c9", 0.5,
            ["no validation image of 2 of 3 classes, which have too few training images to spare"
             " one, or came without: a, c"],
        ),
        (
            "a1 a2 b3 b4", "a7", 0,
            ["no train image of 1 of 3 classes, which the model cannot learn: c",
             "no test image of 2 of 3 classes, which the metrics leave out: b, c"],
        ),
        (
            "a1 a1 b3 b4 c5 c6", "a1 b8 c5", 0.5,
            ["1 of 3 validation images are also in train",
             "2 of 3 test images are also in train or validation"],
        ),
        (
            "a1 b3 c5", "a1 b3 a5 c6", 0,
            ["3 of 4 test images are also in train",
             "2 images are equal to one of another class, such as a and c"],
        ),
    ],
)  # fmt: skip
def test_what_makes_the_splits_doubtful_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
    train: str, test: str, fraction: float, expected: list[str],
) -> None:  # fmt: skip
    decoded = DecodedDataset("pixels", ["a", "b", "c"], "photo", pixels(train), pixels(test))
    write_splits(decoded, fraction, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"warning: {line}" for line in expected]


def test_the_statistics_are_those_of_all_pixels(digits: torch.utils.data.Dataset) -> None:
    images = digits.data[:, 0].numpy()  # type: ignore[attr-defined]
    mean, std = pixel_statistics(images, np.arange(0, len(images), 2))
    pixels = images[::2] / 255
    assert mean == pytest.approx(pixels.mean(), rel=1e-12)
    assert std == pytest.approx(pixels.std(), rel=1e-12)


def test_the_splits_are_as_the_contract_says(digits_folder: Path) -> None:
    sizes = {}
    for name in ("train", "validation", "test"):
        dataset = load_split(digits_folder, name)
        assert dataset.data.dtype == torch.uint8
        assert dataset.data.shape == (len(dataset), 1, 28, 28)
        assert dataset.labels.dtype == torch.int64
        sizes[name] = len(dataset)
        assert np.load(digits_folder / name / "images.npy").shape == dataset.data.shape
    assert sizes == {"train": 1078, "validation": 120, "test": 599}
    info = load_info(digits_folder)
    assert (info.name, info.classes) == ("digits", list("0123456789"))
    assert 0.1 < info.mean < info.std < 0.4
    test = read_digits().test
    assert np.array_equal(load_split(digits_folder, "test").data.numpy(), test.images)


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_splits(read_digits(), 0.2, tmp_path / name)
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 7
    for file in files:
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_saved_rows_are_what_numpy_saves(tmp_path: Path) -> None:
    chunk = CHUNK // 2**20  # rows of 1 MiB
    array = np.arange(2 * chunk * 2**17, dtype=np.int64).reshape(2 * chunk, 2**17)
    for count in (0, 1, chunk, 2 * chunk - 1):
        indices = np.arange(len(array))[::-1][:count].copy()
        save_rows(tmp_path / "a.npy", array, indices)
        np.save(tmp_path / "b.npy", array[indices])
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_images_in_colour_keep_their_shape(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 9, 16), np.uint8)
    both = LabelledImages(images, np.arange(12) % 2)
    write_splits(DecodedDataset("folder", ["a", "b"], "photo", both, both), 0, tmp_path)
    info = load_info(tmp_path)
    assert (info.shape, info.picture) == ([3, 9, 16], "photo")
    assert info.mean == pytest.approx(images.mean() / 255)
    assert np.array_equal(load_split(tmp_path, "test").data.numpy(), images)


def test_the_digits_have_the_form_of_mnist() -> None:
    digits = read_digits()
    images = digits.train.images
    assert images.shape == (1198, 1, 28, 28)
    assert images.max() == 255
    assert not images[:, :, :4].any()
    assert not images[..., 24:].any()
    assert digits.test.labels.shape == (599,)
