"""Write files in the format of MNIST."""

from pathlib import Path

import numpy as np

from mnist_pipeline.raw.idx import DTYPES


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array: uint8, or any integers that fit in int32."""
    code = 0x08 if array.dtype == np.uint8 else 0x0C
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(header + np.ascontiguousarray(array, DTYPES[code]).tobytes())
