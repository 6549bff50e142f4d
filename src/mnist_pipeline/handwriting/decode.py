"""Read a picture file of any format, mode and depth."""

import warnings
from contextlib import nullcontext
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..common.errors import UserError

MAX_PIXELS = 100_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM")
ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
"""Formats whose frames show one picture coming into being; the pages of a TIFF do not."""


class PictureError(UserError):
    """A file that is not a picture, or a picture without ink."""


def read_picture(file: Path | BinaryIO, name: str, stretch: bool = False) -> Image.Image:
    """Read a picture as RGBA, 8 bits per channel, upright; of an animation, the last frame.

    White is the largest value that the type of the pixels allows, or with `stretch` the largest in
    the picture, if that has more than 8 bits. Raises PictureError, which refers to the picture as
    `name`: missing, empty, damaged, not a picture, too large, or with values out of range.
    """
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
            if stream.seek(0, SEEK_END) == 0:
                raise PictureError(f"{name}: found an empty file, expected a picture")
            stream.seek(0)
            return _decode(stream, name, stretch)
    except PictureError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise PictureError(f"{name}: not a picture of a known format ({known})") from None
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name}: too large ({error})") from None
    except MemoryError:
        raise PictureError(f"{name}: too large for this machine's memory") from None
    except Exception as error:  # Pillow's decoders raise many kinds
        problem = getattr(error, "strerror", None) or f"damaged: {error or type(error).__name__}"
        raise PictureError(f"{name}: {problem}; expected a picture") from None


def _decode(stream: BinaryIO, name: str, stretch: bool) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, of large and of odd files
        with Image.open(stream, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(
                    f"{image.width} × {image.height} pixels, expected {MAX_PIXELS:,} at most"
                )
            if image.format in ANIMATIONS:
                image.seek(getattr(image, "n_frames", 1) - 1)  # the first may be blank
            upright = ImageOps.exif_transpose(image)
            if upright.mode[0] in "IF":  # which Pillow would clip at 255
                upright = _eight_bits(upright, name, stretch)
            return upright.convert("RGBA")


def _eight_bits(image: Image.Image, name: str, stretch: bool) -> Image.Image:
    """Scale grey values of 16 or 32 bits to 8; those that are not finite become the median."""
    deep = np.asarray(image).astype(np.float64)
    finite = np.isfinite(deep)
    if not finite.any():
        raise ValueError("no pixel has a finite value")
    deep[~finite] = np.median(deep[finite])
    if stretch:
        deep -= min(deep.min(), 0)
        white = max(deep.max(), 1e-9)
    else:
        white = 1 if image.mode == "F" else 65535  # mode I too: PNG and PPM have 16 bits at most
    scaled = (deep * (255 / white)).round()
    if scaled.min() < 0 or scaled.max() > 255:
        raise PictureError(
            f"{name}: found grey values from {deep.min():g} to {deep.max():g}, expected integers"
            " from 0 to 65535 or floats from 0 to 1; scale those of all photos alike"
        )
    return Image.fromarray(scaled.astype(np.uint8))
