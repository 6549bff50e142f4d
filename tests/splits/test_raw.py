"""Raw files are read as they were verified, or refused by name."""

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.files import sha256
from mnist_pipeline.raw.idx import PARTS, read_idx
from mnist_pipeline.raw.sources import download
from mnist_pipeline.splits.digits import read_digits
from mnist_pipeline.splits.raw import DamagedFileError, read_raw
from mnist_pipeline.splits.write import write_splits

from ..idx import write_idx


@pytest.fixture(scope="module")
def digits_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as the download stage would write them if they had raw files."""
    root, digits = tmp_path_factory.mktemp("digits"), read_digits()
    arrays = [
        array
        for split in (digits.train, digits.test)
        for array in (split.images[:, 0], split.labels.astype(np.uint8))
    ]
    (root / "digits").mkdir()
    files = {}
    for part, array in zip(PARTS, arrays, strict=True):
        path = root / f"digits/{part}.idx"
        write_idx(path, array)
        files[part] = {"path": f"digits/{part}.idx", "sha256": sha256(path)}
    description = {"name": "digits", "classes": digits.classes, "files": files}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


@pytest.fixture
def raw(digits_raw: Path, tmp_path: Path) -> Path:
    """A copy of the raw digits that a test may damage."""
    return Path(shutil.copytree(digits_raw, tmp_path / "raw"))


LABELS, IMAGES = "digits/train-labels.idx", "digits/train-images.idx"


def replace(raw: Path, name: str, array: np.ndarray) -> None:
    """Write another array, and its checksum into dataset.json, as if it had been downloaded."""
    (raw / name).unlink()  # a memory map of the old file stays valid
    write_idx(raw / name, array)
    path = raw / "dataset.json"
    description = json.loads(path.read_text())
    for file in description["files"].values():
        file["sha256"] = sha256(raw / file["path"])
    path.write_text(json.dumps(description))


def test_a_label_out_of_range(raw: Path) -> None:
    labels = read_idx(raw / LABELS).copy()
    labels[17] = 10
    replace(raw, LABELS, labels)
    with pytest.raises(DamagedFileError, match="found labels 0 to 10, expected 0 to 9"):
        read_raw(raw, "digits")


def test_fewer_labels_than_images(raw: Path) -> None:
    replace(raw, LABELS, read_idx(raw / LABELS)[:-1])
    with pytest.raises(DamagedFileError, match=r"found uint8 \(1198, 28, 28\), expected .*\(1197,"):
        read_raw(raw, "digits")


def test_images_of_another_size(raw: Path) -> None:
    replace(raw, IMAGES, read_idx(raw / IMAGES)[:, :27])
    expected = r"test-images\.idx: found images of \(1, 28, 28\), expected \(1, 27, 28\)"
    with pytest.raises(DamagedFileError, match=expected):
        read_raw(raw, "digits")
    replace(raw, IMAGES, read_idx(raw / IMAGES)[:, 0])
    with pytest.raises(DamagedFileError, match=r"found uint8 \(1198, 28\), expected .* H, W\)"):
        read_raw(raw, "digits")


def test_images_and_labels_swapped(raw: Path) -> None:
    images, labels = (raw / IMAGES).read_bytes(), (raw / LABELS).read_bytes()
    (raw / IMAGES).write_bytes(labels)
    (raw / LABELS).write_bytes(images)
    with pytest.raises(DamagedFileError, match=r"train-images\.idx: found SHA-256"):
        read_raw(raw, "digits")


@pytest.mark.parametrize("content", [b"", b"<html>", bytes([0, 0, 8, 1, 0, 0, 0, 0])])
def test_a_foreign_file(raw: Path, content: bytes) -> None:
    (raw / IMAGES).write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"train-images\.idx: found SHA-256 .* expected"):
        read_raw(raw, "digits")


def test_a_folder_where_a_file_should_be(raw: Path) -> None:
    (raw / LABELS).unlink()
    (raw / LABELS).mkdir()
    with pytest.raises(DamagedFileError, match=r"labels\.idx: found no file, expected SHA-256"):
        read_raw(raw, "digits")


def test_a_missing_file(raw: Path) -> None:
    (raw / IMAGES).unlink()
    with pytest.raises(
        DamagedFileError, match=r"train-images\.idx: found no file, expected SHA-256"
    ):
        read_raw(raw, "digits")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_flipped_truncated_or_padded_byte_goes_unseen(
    digits_raw: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = Path(shutil.copytree(digits_raw, tmp_path_factory.mktemp("raw") / "raw"))
    names = [
        file["path"] for file in json.loads((raw / "dataset.json").read_text())["files"].values()
    ]
    path = raw / data.draw(st.sampled_from(names))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["flip", "truncate", "pad"])):
        case "flip":
            content[position] ^= data.draw(st.integers(1, 255))
        case "truncate":
            del content[position:]
        case "pad":
            content += bytes(position + 1)
    path.write_bytes(content)
    with pytest.raises(DamagedFileError) as caught:
        read_raw(raw, "digits")
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"name": 1, "classes": [], "files": {}}', "\x80"]
)
def test_a_damaged_description(raw: Path, text: str) -> None:
    (raw / "dataset.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"dataset\.json"):
        read_raw(raw, "digits")


def test_a_missing_description(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory; 'dvc repro download'"):
        read_raw(tmp_path, "mnist")


def test_more_images_take_hardly_more_memory(raw: Path, tmp_path: Path) -> None:
    images, labels = read_idx(raw / IMAGES), read_idx(raw / LABELS)
    peaks = []
    for times in (10, 100):
        replace(raw, IMAGES, np.concatenate([images] * times))
        replace(raw, LABELS, np.concatenate([labels] * times))
        tracemalloc.start()
        write_splits(read_raw(raw, "digits"), 0.1, tmp_path / "processed")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 90 * images.nbytes / 4


def test_the_files_of_another_dataset_are_not_read(raw: Path) -> None:
    expected = "found the raw files of digits, expected those of mnist; 'dvc repro download'"
    with pytest.raises(UserError, match=expected):
        read_raw(raw, "mnist")


def test_a_dataset_without_raw_files_leaves_none_to_read(tmp_path: Path) -> None:
    download("folder", [], tmp_path / "raw")
    with pytest.raises(UserError, match="found the raw files of folder, expected those of mnist"):
        read_raw(tmp_path / "raw", "mnist")
