"""IDX, the file format of MNIST, uncompressed.

Two zero bytes, one byte for the dtype, one for the number of dimensions, four big-endian bytes for
the length of each dimension, then the values in big-endian order.
Source: Y. LeCun, C. Cortes, C. Burges, THE MNIST DATABASE, section "THE IDX FILE FORMAT".
"""

from pathlib import Path
from typing import Any

import numpy as np

DTYPES: dict[int, np.dtype[Any]] = {0x08: np.dtype("u1"), 0x0C: np.dtype(">i4")}
"""Dtypes found in MNIST-like datasets: uint8, and int32 in the labels of QMNIST."""

PARTS = ("train-images", "train-labels", "test-images", "test-labels")
"""The arrays of a dataset, each in a file of its own."""


def read_idx(path: Path) -> np.ndarray:
    """Memory-map the array in `path`, read-only. Verify the file's checksum first."""
    with path.open("rb") as file:
        _, _, dtype, ndim = file.read(4)
        shape = tuple(np.frombuffer(file.read(4 * ndim), ">u4").tolist())
        offset = file.tell()
    return np.memmap(path, DTYPES[dtype], "r", offset, shape)
