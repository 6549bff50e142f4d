"""Convert any picture to MNIST's form: light ink on black in a 20 × 20 box, centred by mass.

Source: Y. LeCun, C. Cortes, C. Burges, THE MNIST DATABASE of handwritten digits: "size normalized
to fit in a 20x20 pixel box while preserving their aspect ratio [...] centered in a 28x28 image by
computing the center of mass of the pixels".
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFilter

from .decode import PictureError, read_picture
from .ink import find_ink

SIZE, BOX = 28, 20
WORKING_SIZE = 400
"""Pixels on the longer side; larger pictures are reduced first, which averages out noise."""
PEN = 1.6
"""Minimum stroke width in the 28 × 28 image; thinner strokes are widened to it."""
FAINT = 0.25
"""Fainter ink is ignored when the box is fitted: blur and JPEG leave some around each stroke."""


def read_glyph(file: Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """Return the drawing in `file`, of any size, mode and polarity, as uint8 [28, 28].

    Raises PictureError, which refers to the picture as `name` (default: the path): not readable, or
    without ink.
    """
    return _fit(np.max(_read(file, name), axis=0))


def read_glyphs(file: Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """The same for one or more digits, from left to right: uint8 [K, 28, 28], K ≥ 1."""
    return np.stack([_fit(ink) for ink in _read(file, name)])


def _read(file: Path | BinaryIO, name: str | None) -> list[np.ndarray]:
    name = str(file) if name is None else name
    inks = find_ink(working_copy(read_picture(file, name, stretch=True)))
    if not inks:
        raise PictureError(f"{name}: found a single colour, expected ink on a background")
    return inks


def working_copy(picture: Image.Image) -> np.ndarray:
    """RGBA of any size → float32 [H, W, 3], 0 to 255, of WORKING_SIZE at most."""
    picture.thumbnail((WORKING_SIZE, WORKING_SIZE), Image.Resampling.BOX)
    pixels = np.asarray(picture).astype(np.float32)
    colours, alpha = pixels[..., :3], pixels[..., 3:] / 255
    # Composite dark drawings on white and light ones on black.
    dark = (colours * alpha).sum() < 127.5 * 3 * alpha.sum()
    return colours * alpha + (1 - alpha) * (255 if dark else 0)


def _fit(ink: np.ndarray) -> np.ndarray:
    """Scale and centre ink, uint8 [H, W], as MNIST does: uint8 [28, 28]."""
    found = ink > 255 * FAINT
    rows, columns = (np.flatnonzero(found.any(axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX / max(ink.shape)
    grow = int((PEN / scale - _stroke_width(ink)) / 2)
    if grow > 0:
        ink = np.asarray(Image.fromarray(ink).filter(ImageFilter.MaxFilter(2 * grow + 1)))
    height, width = (max(1, round(length * scale)) for length in ink.shape)
    small = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.LANCZOS))
    top, left = (_start(small.sum(axis)) for axis in (1, 0))
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[top : top + height, left : left + width] = small
    return image


def _stroke_width(ink: np.ndarray) -> float:
    """Mean stroke width in pixels: twice the area divided by the length of the outline.

    Counting edges along rows and columns overestimates the length by 4 / π on average.
    """
    padded = np.pad(ink > 127, 1).astype(np.float32)
    outline = sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in (0, 1)) * np.pi / 4
    return float(2 * padded.sum() / outline)


def _start(profile: np.ndarray) -> int:
    """Offset that puts the centre of mass of a profile at the centre of the image."""
    centre = np.average(np.arange(len(profile)), weights=profile)
    return int(np.clip(round(SIZE / 2 - centre), 0, SIZE - len(profile)))
