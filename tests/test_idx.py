"""IDX files: read as torchvision reads them, and refused when they are damaged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from mnist_pipeline.idx import DamagedFileError, read_idx, write_idx


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


GOOD = bytes([0, 0, 8, 1, 0, 0, 0, 3]) + b"abc"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "starts with ''"),
        (b"<html>", "starts with '3c 68 74 6d'"),
        (bytes([0, 0, 9, 1, 0, 0, 0, 3]) + b"abc", "starts with '00 00 09 01'"),
        (bytes([0, 0, 8, 3, 0, 0]), "expected a header and 3 lengths"),
        (GOOD[:-1], "found 10 bytes, expected 11"),
        (GOOD + b"d", "found 12 bytes, expected 11"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 0]), "found no values"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"abc", "found 19 bytes, expected"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert found in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DamagedFileError, match=path.name):
            read_idx(path)
