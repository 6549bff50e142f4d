"""A folder of pictures with one sub-folder per class, as glyphs in MNIST's form or as photos."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from tqdm import tqdm

from ..common.cores import map_on_cores
from ..common.errors import UserError
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
    Raises UserError as `find_pictures`, or a process was killed; PictureError names all pictures
    that cannot be used.
    """
    layout = find_pictures(folder)
    pictures = [*layout.train, *layout.test]
    convert = partial(PICTURES[picture], **(settings or {}))
    try:
        images = _convert([path for path, _ in pictures], convert, scratch)
    except OSError as error:  # a full disk; the file has no name
        error.filename = error.filename or (scratch and str(scratch))
        raise
    except BrokenProcessPool:
        raise UserError(
            f"{folder}: a process that converts pictures was killed, as happens when memory runs"
            " out; each core needs about 0.15 GB, or 1.3 GB for pictures of 100 million pixels."
            " Free memory, or use fewer cores: on Linux 'taskset -c 0 dvc repro' uses one"
        ) from None
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

    Through ordinary writes, as `save_rows`. A kill leaves nothing behind, as the file has no name.
    """
    problems = []
    with TemporaryFile(dir=scratch) as file:
        images = map_on_cores(partial(_try, convert), paths)
        for image in tqdm(images, total=len(paths), unit=" pictures", disable=None):
            if isinstance(image, str):
                problems.append(image)
            else:
                shape = image.shape
                file.write(image.tobytes())
        _refuse(problems)
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=(len(paths), *shape))


def _try(convert: Callable[[Path], np.ndarray], path: Path) -> np.ndarray | str:
    """The image, or why the picture cannot be used."""
    try:
        return convert(path)
    except PictureError as error:
        return str(error)
    except MemoryError:  # no fault of the picture
        raise
    except Exception as error:  # a fault of the conversion: without a name, which picture?
        return f"{path}: cannot be converted ({type(error).__name__}: {error})"


def _refuse(problems: list[str]) -> None:
    """Raise PictureError if there are problems, which it lists."""
    if len(problems) == 1:
        raise PictureError(problems[0])
    if problems:
        more = len(problems) - MOST_PROBLEMS
        shown = problems[:MOST_PROBLEMS] + [f"and {more} more"] * (more > 0)
        raise PictureError("\n  ".join([f"{len(problems)} pictures cannot be used:", *shown]))
