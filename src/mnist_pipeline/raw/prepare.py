"""Convert any picture to MNIST's form: light ink on black in a 20 × 20 box, centred by mass.

Source: Y. LeCun, C. Cortes, C. Burges, THE MNIST DATABASE of handwritten digits: "size normalized
to fit in a 20x20 pixel box while preserving their aspect ratio [...] centered in a 28x28 image by
computing the center of mass of the pixels".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFilter

from .decode import PictureError, read_picture

SIZE, BOX = 28, 20
WORKING_SIZE = 400
"""Pixels on the longer side; larger pictures are reduced first, which averages out noise."""
MIN_CONTRAST = 12
"""Smallest distance between ink and background in RGB, each channel 0 to 255."""
PEN = 1.6
"""Minimum stroke width in the 28 × 28 image; thinner strokes are widened to it."""
FAINT = 0.25
"""Fainter ink is ignored when the box is fitted: JPEG leaves some around each stroke."""


def prepare(file: Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """Return the picture in `file`, of any size, mode and polarity, as uint8 [28, 28].

    Raises PictureError, which refers to the picture as `name` (default: the path): not readable, or
    without ink.
    """
    name = str(file) if name is None else name
    image = fit(find_ink(working_copy(read_picture(file, name))))
    if image is None:
        raise PictureError(f"{name}: found a single colour, expected ink on a background")
    return image


def working_copy(picture: Image.Image) -> np.ndarray:
    """RGBA of any size → float32 [H, W, 3], 0 to 255, of WORKING_SIZE at most."""
    picture.thumbnail((WORKING_SIZE, WORKING_SIZE), Image.Resampling.BOX)
    pixels = np.asarray(picture).astype(np.float32)
    colours, alpha = pixels[..., :3], pixels[..., 3:] / 255
    # Composite dark drawings on white and light ones on black.
    dark = (colours * alpha).sum() < 127.5 * 3 * alpha.sum()
    return colours * alpha + (1 - alpha) * (255 if dark else 0)


def find_ink(pixels: np.ndarray) -> np.ndarray:
    """Separate ink from background: uint8 [H, W], all 0 if the picture has a single colour.

    The background is modelled as a plane in RGB, fitted to the border of the picture, which allows
    for light from one side. Ink is the distance from it along the colour that differs most, so the
    polarity does not matter.
    """
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    places = np.stack([np.ones_like(x), x, y], axis=2).astype(np.float32)
    ring = np.ones((height, width), bool)
    wide = max(1, min(height, width) // 14)
    ring[wide:-wide, wide:-wide] = False
    difference = pixels - places @ _plane(places[ring], pixels[ring])
    distance = np.linalg.norm(difference, axis=2)
    if distance.max() < MIN_CONTRAST:
        return np.zeros((height, width), np.uint8)
    strongest = difference.reshape(-1, 3)[distance.argmax()]
    strong = (distance > distance.max() / 2) & (difference @ strongest > 0)
    direction = difference[strong].mean(0)
    ink = difference @ (direction / np.linalg.norm(direction))
    full = max(np.median(ink[strong]), 1)
    noise = min(np.quantile(np.abs(ink[ring]), 0.9), full / 2)
    return np.clip((ink - noise) * (255 / (full - noise)), 0, 255).round().astype(np.uint8)


def _plane(places: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Fit colours [N, 3] = places [N, 3] @ plane [3, 3] by least absolute deviations.

    Iteratively reweighted least squares; strokes that cross the border have little influence.
    """
    weights = np.ones((len(places), 1), np.float32)
    for _ in range(10):
        plane = np.linalg.lstsq(places * weights, colours * weights, rcond=None)[0]
        residuals = np.linalg.norm(colours - places @ plane, axis=1, keepdims=True)
        weights = 1 / np.sqrt(np.maximum(residuals, 0.1))
        if residuals.max() < 0.1:
            break
    return plane


def fit(ink: np.ndarray) -> np.ndarray | None:
    """Scale and centre ink, uint8 [H, W], as MNIST does: uint8 [28, 28], or None without ink."""
    # Locate the ink on a blurred copy, because a single speck would enlarge the box.
    blurred = Image.fromarray(ink).filter(ImageFilter.BoxBlur(max(ink.shape) // 150))
    found = np.asarray(blurred) > 255 * FAINT
    if not found.any():
        return None
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


def photo(file: Path | BinaryIO, shape: Sequence[int], name: str | None = None) -> np.ndarray:
    """Return the picture in `file` as it is, resized to `shape` [C, H, W]: uint8, grey or RGB.

    Transparent areas become white. Raises PictureError as `prepare` does, but for no single colour.
    """
    channels, height, width = shape
    picture = read_picture(file, str(file) if name is None else name)
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    opaque = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    pixels = np.asarray(opaque.convert("L" if channels == 1 else "RGB"))
    return np.ascontiguousarray(pixels.reshape(height, width, channels).transpose(2, 0, 1))
