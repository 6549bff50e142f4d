"""A folder of pictures with one sub-folder per class, as glyphs in MNIST's form or as photos."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from tqdm import tqdm

from ..handwriting.decode import PictureError
from ..handwriting.glyphs import read_glyph
from ..handwriting.photos import read_photo
from .decoded import DecodedDataset, LabelledImages
from .layout import find_pictures

MOST_PROBLEMS = 20
"""Pictures that cannot be used that an error lists."""


def glyph(path: Path) -> np.ndarray:
    """Ink on black, as in MNIST: uint8 [1, 28, 28]."""
    return read_glyph(path)[np.newaxis]


def photo(
    path: Path, *, image_size: Annotated[int, Field(ge=8, le=512)], channels: Literal[1, 3]
) -> np.ndarray:
    """The picture as it is, resized: uint8 [channels, image_size, image_size]."""
    return read_photo(path, (channels, image_size, image_size))


PICTURES: dict[str, Callable[..., np.ndarray]] = {"glyph": glyph, "photo": photo}
"""What becomes of a picture; every one of a folder gets the same shape."""


def read_folder(
    folder: Path,
    picture: str = "glyph",
    settings: Mapping[str, Any] | None = None,
    scratch: Path | None = None,
) -> DecodedDataset:
    """Read every picture under `folder`, converted by PICTURES[picture] with its settings.

    `folder` holds either train/ and test/, each with one sub-folder per class, or the class folders
    themselves, which are then split the same way in every run. Labels follow the sorted names. The
    images are memory-mapped from a nameless file in `scratch`, by default in TMPDIR.
    Raises UserError as `find_pictures`; PictureError names all pictures that cannot be used.
    """
    layout = find_pictures(folder)
    pictures = [*layout.train, *layout.test]
    convert = partial(PICTURES[picture], **(settings or {}))
    try:
        images = _convert([path for path, _ in pictures], convert, scratch)
    except OSError as error:  # a full disk; the file has no name
        error.filename = error.filename or scratch
        raise
    labels = np.array([label for _, label in pictures], np.int64)
    count = len(layout.train)
    return DecodedDataset(
        name="folder",
        classes=layout.classes,
        picture=picture,
        train=LabelledImages(images[:count], labels[:count]),
        test=LabelledImages(images[count:], labels[count:]),
    )


def _convert(
    paths: Sequence[Path], convert: Callable[[Path], np.ndarray], scratch: Path | None
) -> np.ndarray:
    """Images uint8 [N, C, H, W], memory-mapped; all pictures that cannot be used are listed.

    Through ordinary writes, as `save_rows`.
    """
    problems = []
    with TemporaryFile(dir=scratch) as file:
        for path in tqdm(paths, unit=" pictures", disable=None):
            try:
                image = convert(path)
            except PictureError as error:
                problems.append(str(error))
            except Exception as error:  # a fault of the conversion: without a name, which picture?
                problems.append(f"{path}: cannot be converted ({type(error).__name__}: {error})")
            else:
                file.write(image.tobytes())
        _refuse(problems)
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=(len(paths), *image.shape))


def _refuse(problems: list[str]) -> None:
    """Raise PictureError if there are problems, which it lists."""
    if len(problems) == 1:
        raise PictureError(problems[0])
    if problems:
        more = len(problems) - MOST_PROBLEMS
        shown = problems[:MOST_PROBLEMS] + [f"and {more} more"] * (more > 0)
        raise PictureError("\n  ".join([f"{len(problems)} pictures cannot be used:", *shown]))
