"""IDX files: read as torchvision reads them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from mnist_pipeline.raw.idx import read_idx

from ..idx import write_idx


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=5)))
def test_what_is_written_reads_back_here_and_in_torchvision(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    write_idx(path, array)
    assert np.array_equal(read_idx(path), array)
    assert np.array_equal(read_sn3_pascalvincent_tensor(str(path)).numpy(), array)


def test_four_byte_integers_are_read(tmp_path: Path) -> None:
    labels = np.array([[7, 0], [-1, 70000]], ">i4")
    (tmp_path / "f").write_bytes(bytes([0, 0, 0x0C, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + labels.tobytes())
    assert read_idx(tmp_path / "f").tolist() == [[7, 0], [-1, 70000]]
