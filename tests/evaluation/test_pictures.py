"""Pictures: the right images and names in the right places, whatever the classes are called."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from mnist_pipeline.evaluation.metrics import prediction_table
from mnist_pipeline.evaluation.pictures import (
    GAP,
    LINE,
    WIDTH,
    first_layer,
    mistakes,
    samples,
    write_png,
)
from mnist_pipeline.model.files import Normalize
from mnist_pipeline.model.networks import Mlp

SETTINGS: dict[str, Any] = {"activation": "relu", "dropout": 0.0}
NAMES = st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=1, max_size=12)


@settings(deadline=None)
@given(names=NAMES, seed=st.integers(0, 9))
def test_any_classes_can_be_drawn(names: list[str], seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (30, 1, 28, 28), np.uint8)
    labels = generator.integers(0, len(names), 30)
    probabilities = generator.random((30, len(names)))
    table = prediction_table(probabilities, labels, names)
    for picture in (mistakes(images, table, names), samples(images, labels, names)):
        assert picture.width == WIDTH
        assert picture.height < 1200


def test_each_of_many_classes_has_one_sample() -> None:
    images = np.arange(0, 240, dtype=np.uint8).repeat(4).reshape(240, 1, 2, 2)
    labels = np.arange(240) // 2  # of 240 classes, half have images
    picture = samples(images, labels, [f"class {number}" for number in range(240)])
    row, cell = LINE + 2 * GAP, (WIDTH - GAP) // 8
    firsts = [picture.getpixel((GAP + column * cell, row)) for column in range(8)]
    assert firsts == [(2 * label,) * 3 for label in range(8)]
    assert picture.height == row + 15 * (90 + LINE + GAP)


def test_the_most_confident_mistake_comes_first() -> None:
    images = np.stack([np.full((1, 28, 28), shade, np.uint8) for shade in (50, 100, 150, 200)])
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.1, 0.9], [0.9, 0.1], [0.7, 0.3], [0.95, 0.05]])
    classes = ["cat", "dog"]
    picture = mistakes(images, prediction_table(probabilities, labels, classes), classes)
    row, cell = LINE + 2 * GAP, (WIDTH - GAP) // 5
    firsts = [picture.getpixel((GAP + column * cell, row)) for column in range(4)]
    assert firsts == [(200,) * 3, (50,) * 3, (150,) * 3, (255,) * 3]  # the last is the paper


def test_without_a_mistake_it_says_so() -> None:
    images, labels = np.zeros((2, 1, 28, 28), np.uint8), np.array([0, 1])
    picture = mistakes(images, prediction_table(np.eye(2), labels, ["a", "b"]), ["a", "b"])
    assert picture.height < 100
    assert np.asarray(picture).min() == 0  # there is writing on it


def test_the_first_layer_of_each_kind_of_model() -> None:
    dense = nn.Sequential(Normalize(0.5, 0.5), Mlp([1, 28, 28], 10, hidden_sizes=[64], **SETTINGS))
    conv = nn.Conv2d(1, 8, 3)
    kernels = nn.Sequential(nn.Sequential(conv, nn.Flatten(), nn.Linear(5408, 10)))
    with torch.no_grad():
        conv.weight.fill_(0.5)
        conv.weight[3] = -1
    assert first_layer(dense, [1, 28, 28]).size[0] == WIDTH
    picture = np.asarray(first_layer(kernels, [1, 28, 28]))
    top = LINE + 2 * GAP
    assert picture[top, GAP].tolist() == [0, 0, 255]  # the strongest is the negative one
    assert picture[top, GAP + (WIDTH - GAP) // 10].tolist() == [255, 128, 128]
    assert first_layer(nn.LSTM(28, 8), [1, 28, 28]).height < 100


@pytest.mark.parametrize(("side", "drawn"), [(9, 144), (150, 150), (512, 150)])
def test_pictures_keep_their_colours_and_stay_in_their_cells(side: int, drawn: int) -> None:
    colours = np.array([[200, 100, 0], [0, 100, 200]], np.uint8)
    images = np.broadcast_to(colours[:, :, None, None], (2, 3, side, side))
    table = prediction_table(np.eye(2), np.array([1, 0]), ["a", "b"])
    picture = mistakes(images, table, ["a", "b"])
    row, cell = LINE + 2 * GAP, (WIDTH - GAP) // 5
    for index, colour in enumerate(colours):
        assert picture.getpixel((GAP + index * cell, row)) == tuple(colour)
        assert picture.getpixel(((index + 1) * cell, row)) == (255, 255, 255)
    assert picture.height == row + drawn + 3 * LINE + GAP
    rows = np.asarray(samples(images, np.arange(2), ["a", "b"]))
    for colour in colours:
        assert (rows == colour).all(2).any()


def test_the_first_layer_of_a_model_of_colours() -> None:
    dense, conv = (
        Mlp([3, 4, 4], 10, hidden_sizes=[64], **SETTINGS),
        nn.Conv2d(3, 8, 3),
    )
    with torch.no_grad():
        conv.weight.fill_(0)
        conv.weight[5, 0] = 0.5
        conv.weight[5, 2] = -0.5
    assert first_layer(dense, [3, 4, 4]).size[0] == WIDTH
    picture = np.asarray(first_layer(conv, [3, 4, 4]))
    top = LINE + 2 * GAP
    assert picture[top, GAP].tolist() == [255, 128, 0]
    assert picture[top, GAP + (WIDTH - GAP) // 10].tolist() == [128, 128, 128]


def test_a_picture_holds_pixels_alone_and_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Mlp([1, 28, 28], 10, hidden_sizes=[16], **SETTINGS)
    for name in ("one.png", "two.png"):
        write_png(tmp_path / name, first_layer(model, [1, 28, 28]))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert Image.open(tmp_path / "one.png").info == {}
