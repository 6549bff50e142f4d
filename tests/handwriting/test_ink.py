"""Digits drawn onto pictures of many kinds are told from all else that is in them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw

from mnist_pipeline.handwriting.decode import PictureError
from mnist_pipeline.handwriting.glyphs import read_glyph, read_glyphs
from mnist_pipeline.handwriting.ink import find_ink
from mnist_pipeline.model.files import load_model
from mnist_pipeline.splits.batches import load_split

from .pictures import TUNED, TWO, make, saved
from .test_glyphs import distance

COUNT = 4


@pytest.mark.parametrize("kind", [*TUNED, TWO])
def test_digits_are_recognized_on(kind: str, mnist_folder: Path, model_file: Path) -> None:
    """`python tests/handwriting/pictures.py` measures 100 of each kind."""
    model, _ = load_model(model_file)
    images, labels = load_split(mnist_folder, "train")[::1000]
    with torch.no_grad():
        is_easy = model(images).argmax(1) == labels  # a mistake is then one of the ink
    images, labels = images[is_easy][:COUNT], labels[is_easy][:COUNT]
    correct = 0
    for index in range(COUNT):
        found = read_glyphs(saved(make(kind, images[:, 0].numpy(), index)), kind)
        with torch.no_grad():
            answer = model(torch.from_numpy(found)[:, None]).argmax(1).tolist()
        expected = [int(labels[index])]
        if kind == TWO:
            expected.append(int(labels[(index + 1) % COUNT]))
        correct += answer == expected
    assert correct >= COUNT - 1


def page(size: tuple[int, int] = (400, 400)) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", size, 240)
    return image, ImageDraw.Draw(image)


def four(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], width: int) -> None:
    """An open 4 that fills a box: left, top, right, bottom."""
    left, top, right, bottom = box
    middle, upright = (top + bottom) // 2, left + 2 * (right - left) // 3
    pen.line([(left, top), (left, middle), (right, middle)], 30, width, "curve")
    pen.line([(upright, top), (upright, bottom)], 30, width)


def of_four(width: int) -> np.ndarray:
    image, pen = page()
    four(pen, (120, 100, 260, 300), width)
    return read_glyph(saved(image), "four")


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return distance(found, expected) < 6


@pytest.mark.parametrize("width", [6, 20, 40])
def test_a_digit_that_fills_the_picture_keeps_its_bars(width: int) -> None:
    image, pen = page()
    four(pen, (120, 100, 260, 300), width)
    half = width // 2
    tight = image.crop((120 - half, 100 - half, 260 + half, 300 + half))
    assert same(read_glyph(saved(tight), "tight"), of_four(width))


@pytest.mark.parametrize("width", [2, 20])
def test_a_box_around_the_digit_is_left_out(width: int) -> None:
    image, pen = page()
    pen.rectangle((40, 40, 360, 360), None, 30, width)
    four(pen, (120, 100, 260, 300), 20)
    assert same(read_glyph(saved(image), "boxed"), of_four(20))


def test_a_faint_drawing_and_a_dark_speck() -> None:
    image, pen = page()
    pen.line([(100, 60), (250, 60), (180, 320)], 190, 24, "curve")
    clean = read_glyph(saved(image), "seven")
    pen.ellipse((350, 20, 353, 23), 0)
    assert same(read_glyph(saved(image), "speck"), clean)


def test_parts_that_belong_together_are_one_drawing() -> None:
    image, pen = page()
    pen.line([(150, 80), (260, 80)], 30, 16)  # the bar of a 5, written apart
    pen.line([(150, 100), (150, 180)], 30, 16)
    pen.arc((130, 170, 260, 320), -120, 150, 30, 16)
    assert len(read_glyphs(saved(image), "five")) == 1


def test_several_digits_come_from_left_to_right() -> None:
    image, pen = page((900, 400))
    four(pen, (100, 100, 240, 300), 20)
    pen.line([(420, 90), (420, 310)], 30, 20)
    four(pen, (600, 120, 740, 320), 20)
    first, one, last = read_glyphs(saved(image), "414")
    assert same(first, of_four(20))
    assert same(last, of_four(20))
    assert np.ptp(np.flatnonzero(one.any(0))) < 5
    whole = read_glyph(saved(image), "414")  # as a class of its own
    assert np.ptp(np.flatnonzero(whole.any(0))) + 1 == 20


def test_pixels_that_are_not_finite() -> None:
    image, pen = page()
    four(pen, (120, 100, 260, 300), 20)
    values = np.asarray(image).astype(np.float32) / 255
    values[200, 150], values[30, 40] = np.nan, np.inf
    assert same(read_glyph(saved_tiff(values), "nan"), of_four(20))


def saved_tiff(values: np.ndarray) -> BytesIO:
    file = BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    return file


def test_the_last_frame_of_an_animation_counts() -> None:
    frames = []
    for progress in (0, 1, 2):
        image, pen = page()
        if progress:
            four(pen, (120, 100, 260, 300 if progress == 2 else 150), 20)
        frames.append(image)
    for kind in ("GIF", "PNG", "WEBP"):
        file = BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        assert same(read_glyph(file, kind), of_four(20)), kind


Box = tuple[int, int, int, int, list[int]]
"""Top, height, left, width and colour of a rectangle."""

COLOURS = st.one_of(
    st.integers(0, 255).map(lambda grey: [grey] * 3),
    st.lists(st.integers(0, 255), min_size=3, max_size=3),
)
BOXES = st.tuples(*[st.integers(0, 38), st.integers(1, 40)] * 2, COLOURS)


def drawn(shape: tuple[int, int], paper: list[int], boxes: list[Box]) -> np.ndarray:
    pixels = np.full((*shape, 3), paper, np.uint8)
    for top, height, left, width, colour in boxes:
        pixels[top : top + height, left : left + width] = colour
    return pixels


NOISE = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40).map(lambda s: (*s, 3)))
DRAWINGS = st.builds(
    drawn, st.tuples(st.integers(1, 40), st.integers(1, 40)), COLOURS, st.lists(BOXES, max_size=4)
)
CANCELLING = drawn(
    (40, 40), [100] * 3, [(5, 30, 8, 6, [150] * 3), (5, 30, 26, 6, [50] * 3)]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(NOISE | DRAWINGS, st.integers(1, 12))
@example(CANCELLING, 1)
@example(CANCELLING, 5)
def test_any_pixels_give_ink_or_none(pixels: np.ndarray, enlarged: int) -> None:
    large = pixels.repeat(enlarged, 0).repeat(enlarged, 1)
    for ink in find_ink(large.astype(np.float32)):
        assert ink.shape == large.shape[:2]
        assert ink.dtype == np.uint8
        assert ink.max() == 255
    try:
        found = read_glyphs(saved(Image.fromarray(large)), "random")
    except PictureError as error:
        assert str(error).startswith("random: found a single colour")
    else:
        assert found.shape[1:] == (28, 28)
        assert found.any((1, 2)).all()
