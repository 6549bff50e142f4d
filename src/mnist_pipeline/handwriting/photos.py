"""Read a photo as it is, resized."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from .decode import read_picture


def read_photo(file: Path | BinaryIO, shape: Sequence[int], name: str | None = None) -> np.ndarray:
    """Return the picture in `file` as it is, resized to `shape` [C, H, W]: uint8, grey or RGB.

    Transparent areas become white. Raises PictureError, which refers to the picture as `name`: not
    readable.
    """
    channels, height, width = shape
    picture = read_picture(file, str(file) if name is None else name)
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    opaque = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    pixels = np.asarray(opaque.convert("L" if channels == 1 else "RGB"))
    return np.ascontiguousarray(pixels.reshape(height, width, channels).transpose(2, 0, 1))
