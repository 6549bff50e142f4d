"""Pictures of mistakes, samples and weights.

Drawn with Pillow, which imports quickly, has its own font and writes no date or version, so equal
input gives equal bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from ..common.files import atomic

WIDTH, GAP, LINE = 800, 8, 20  # pixels
FONT = ImageFont.load_default(15)
NO_GLYPH = bytes(FONT.getmask("\uffff"))
MOST_ROWS, MOST_CLASSES = 30, 200  # of samples: with ten images of a class, with one


def mistakes(
    images: np.ndarray, predictions: pd.DataFrame, classes: Sequence[str], count: int = 20
) -> Image.Image:
    """Grid of the most confident mistakes with actual class, predicted class and confidence.

    `images` uint8 [N, C, H, W]; `predictions` is their `metrics.prediction_table`.
    """
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    worst = wrong.sort_values("confidence", ascending=False, kind="stable").head(count)
    if worst.empty:
        return _grid(_tiles(images[:0]), [], 5, f"No mistakes in {len(images)} images")
    shown = dict(zip(classes, _drawable(classes), strict=True))
    captions = [
        f"actual {shown[actual]}\npredicted {shown[predicted]}\n{confidence:.1%}"
        for actual, predicted, confidence in zip(
            worst["actual"], worst["predicted"], worst["confidence"], strict=True
        )
    ]
    title = f"The most confident of {len(wrong)} mistakes in {len(images)} images"
    return _grid(_tiles(images[worst["index"]]), captions, 5, title)


def samples(images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """One row per class: its name and its first ten images.

    Of more than 30 classes, a grid of the first image of each class that has one, at most 200.

    `images` uint8 [N, C, H, W], `labels` int [N].
    """
    names = _drawable(classes)
    if len(names) > MOST_ROWS:
        found, firsts = np.unique(labels, return_index=True)
        captions = [names[label] for label in found[:MOST_CLASSES]]
        title = f"The first image of {len(captions)} of {len(names)} classes"
        return _grid(_tiles(images[firsts[:MOST_CLASSES]]), captions, 8, title)
    margin = min(160, round(max(map(FONT.getlength, names))) + 2 * GAP)
    cell = (WIDTH - margin) // 10
    size = _size(images.shape[2:], cell - GAP)
    row = max(size[1], LINE) + GAP
    picture = Image.new("RGB", (WIDTH, row * len(names) + GAP), "white")
    draw = ImageDraw.Draw(picture)
    for number, name in enumerate(names):
        top = GAP + number * row
        place = (margin - GAP, top + (row - GAP) // 2)
        draw.text(place, _fit(name, margin - 2 * GAP), "black", FONT, anchor="rm")
        for column, tile in enumerate(_tiles(images[labels == number][:10])):
            picture.paste(_resized(tile, size), (margin + column * cell, top))
    return picture


def first_layer(model: nn.Module, shape: Sequence[int], count: int = 50) -> Image.Image:
    """Grid of the first layer's weights with the largest norms.

    One tile per unit of a Linear layer on the pixels, or per kernel of a Conv2d layer. For images
    with one channel: blue -, white 0, red +. For RGB: each channel in its colour, grey 0.
    `shape` is that of the model's images, [C, H, W].
    """
    channels, *sides = shape
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            sides, kind = list(layer.kernel_size), "kernels"
            break
        if isinstance(layer, nn.Linear) and layer.in_features == math.prod(shape):
            kind = "units"
            break
    else:
        return _grid(np.empty((0, 1, 1)), [], 10, "No first layer on the pixels to draw")
    tiles = layer.weight.detach().cpu().numpy().reshape(-1, channels, *sides)
    strongest = np.argsort(-np.square(tiles).sum((1, 2, 3)), kind="stable")[:count]
    limit = float(np.abs(tiles[strongest]).max()) or 1.0
    value = tiles[strongest] / limit  # [count, C, H, W] in [-1, 1]
    if channels == 1:
        red, blue = np.clip(1 + value, 0, 1), np.clip(1 - value, 0, 1)
        colours = np.concatenate([red, np.minimum(red, blue), blue], axis=1)
        scale = f"blue {-limit:.2g}, white 0, red {limit:.2g}"
    else:
        colours = (1 + value) / 2
        scale = f"in RGB: {-limit:.2g} dark, 0 grey, {limit:.2g} bright"
    title = f"First layer: the {len(strongest)} strongest of {len(tiles)} {kind} ({scale})"
    return _grid(_tiles((255 * colours).round().astype(np.uint8)), [], 10, title)


def write_png(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG; equal pixels give equal bytes."""
    with atomic(path) as temporary:
        picture.save(temporary, format="png")


def _grid(tiles: np.ndarray, captions: Sequence[str], columns: int, title: str) -> Image.Image:
    """Grid of tiles uint8 [N, H, W] or [N, H, W, 3] with a title, and a caption under each tile."""
    cell = (WIDTH - GAP) // columns
    size = _size(tiles.shape[1:3], cell - GAP)
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    row = size[1] + lines * LINE + GAP
    rows = -(-len(tiles) // columns)
    picture = Image.new("RGB", (WIDTH, LINE + 2 * GAP + rows * row), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, GAP), title, "black", FONT)
    for index, tile in enumerate(tiles):
        left = GAP + index % columns * cell
        top = LINE + 2 * GAP + index // columns * row
        picture.paste(_resized(tile, size), (left, top))
        for number, line in enumerate(captions[index].split("\n") if captions else []):
            place = (left, top + size[1] + number * LINE)
            draw.text(place, _fit(line, cell - GAP), "black", FONT)
    return picture


def _tiles(images: np.ndarray) -> np.ndarray:
    """Images [N, 1, H, W] → [N, H, W], and [N, 3, H, W] → [N, H, W, 3]."""
    return images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)


def _size(shape: Sequence[int], most: int) -> tuple[int, int]:
    """Width and height of a tile [H, W] drawn at most `most` pixels wide.

    Each of its pixels becomes a square of as many pixels as fit; a wider tile is reduced.
    """
    height, width = shape
    scale = most // width or most / width
    return round(width * scale), round(height * scale) or 1


def _resized(tile: np.ndarray, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(tile)).resize(size, Image.Resampling.BOX)


def _drawable(classes: Sequence[str]) -> list[str]:
    """Class names as the ASCII-only font can draw them; others become "class <number>"."""
    lines = [" ".join(name.split()) for name in classes]
    return [
        f"class {number}" if any(bytes(FONT.getmask(c)) == NO_GLYPH for c in line) else line
        for number, line in enumerate(lines)
    ]


def _fit(text: str, width: int) -> str:
    """Shorten `text` to `width` pixels."""
    if FONT.getlength(text) <= width:
        return text
    while text and FONT.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
