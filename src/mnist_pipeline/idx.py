"""The IDX format of the MNIST files, uncompressed: a header and the array's bytes, big-endian.

Source: "THE IDX FILE FORMAT", at the end of the MNIST database's page. Two zero bytes, a byte for
the dtype, a byte for the number of dimensions, four bytes for the length of each, then the values.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .files import atomic

DTYPES: dict[int, np.dtype[Any]] = {0x08: np.dtype("u1"), 0x0C: np.dtype(">i4")}
"""The dtypes that MNIST-format datasets use: bytes, and QMNIST's 4-byte integers."""


class DamagedFileError(UserError):
    """A raw file isn't what its name says."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}.\nFetch it again: dvc repro --force --single-item download"
        )


def read_idx(path: Path) -> np.ndarray:
    """The array in `path`, memory-mapped and read-only: [N, ...], uint8 or big-endian int32.

    Raises DamagedFileError: missing, no IDX file, or longer or shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            header = file.read(4 * magic[3]) if len(magic) == 4 else b""
        size = path.stat().st_size
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DamagedFileError(path, f"{error.strerror}, expected an IDX file") from None
    if (
        len(magic) < 4
        or magic[:2] != b"\0\0"
        or magic[2] not in DTYPES
        or magic[3] not in (1, 2, 3)
    ):
        expected = "00 00, then 08 or 0c, then the number of dimensions"
        raise DamagedFileError(path, f"starts with '{magic.hex(' ')}', expected {expected}")
    dtype, dimensions = DTYPES[magic[2]], magic[3]
    if len(header) < 4 * dimensions:
        raise DamagedFileError(
            path, f"found {size} bytes, expected a header and {dimensions} lengths"
        )
    shape = tuple(int(length) for length in np.frombuffer(header, ">u4"))
    expected_size = 4 + len(header) + math.prod(shape) * dtype.itemsize
    if size != expected_size:
        sizes = " × ".join(str(length) for length in shape)
        problem = (
            f"found {size} bytes, expected {expected_size} for the {sizes} values of its header"
        )
        raise DamagedFileError(path, problem)
    if 0 in shape:
        raise DamagedFileError(path, "found no values, expected at least one")
    return np.memmap(path, dtype=dtype, mode="r", offset=4 + len(header), shape=shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of one to three dimensions: uint8, or integers of four bytes."""
    code = 0x08 if array.dtype == np.uint8 else 0x0C
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(header + np.ascontiguousarray(array, DTYPES[code]).tobytes())
