"""IDX, the file format of MNIST, uncompressed.

Two zero bytes, one byte for the dtype, one for the number of dimensions, four big-endian bytes for
the length of each dimension, then the values in big-endian order.
Source: Y. LeCun, C. Cortes, C. Burges, THE MNIST DATABASE, section "THE IDX FILE FORMAT".
"""

from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import atomic

DTYPES: dict[int, np.dtype[Any]] = {0x08: np.dtype("u1"), 0x0C: np.dtype(">i4")}
"""Dtypes found in MNIST-like datasets: uint8, and int32 in the labels of QMNIST."""

PARTS = ("train-images", "train-labels", "test-images", "test-labels")
"""The arrays of a dataset, each in a file of its own."""

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Training images uint8 [N, H, W] or, in colour, [N, 3, H, W], and labels [N]; then the test's."""


def read_idx(path: Path) -> np.ndarray:
    """Memory-map the array in `path`, read-only. Verify the file's checksum first."""
    with path.open("rb") as file:
        _, _, dtype, ndim = file.read(4)
        shape = tuple(np.frombuffer(file.read(4 * ndim), ">u4").tolist())
        offset = file.tell()
    return np.memmap(path, DTYPES[dtype], "r", offset, shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array: uint8, or any integers that fit in int32."""
    code = 0x08 if array.dtype == np.uint8 else 0x0C
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        file.write(np.ascontiguousarray(array, DTYPES[code]).data)
