"""Raw files → splits: stratified, independent of everything but the data, and never damaged."""

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.files import sha256
from mnist_pipeline.raw.idx import PARTS, read_idx, write_idx
from mnist_pipeline.splits.batches import load_info, load_split
from mnist_pipeline.splits.write import (
    CHUNK,
    DamagedFileError,
    pixel_statistics,
    read_raw,
    save_rows,
    stratified_split,
    write_splits,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(20, 60), min_size=2, max_size=10), st.floats(0.1, 0.9))
def test_every_image_is_in_one_split_and_each_class_in_proportion(
    counts: list[int], fraction: float
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    train, validation = stratified_split(labels, fraction)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        assert abs((labels[validation] == label).sum() - fraction * count) <= 1.5


def test_fraction_zero_trains_on_everything() -> None:
    train, validation = stratified_split(np.arange(10), 0)
    assert (train.tolist(), validation.tolist()) == (list(range(10)), [])


def test_too_few_images_for_a_fraction() -> None:
    with pytest.raises(UserError, match=r"validation_fraction: found 0\.1, which cannot split 10"):
        stratified_split(np.arange(10), 0.1)


def test_the_statistics_are_those_of_all_pixels(digits: torch.utils.data.Dataset) -> None:
    images = digits.data[:, 0].numpy()  # type: ignore[attr-defined]
    mean, std = pixel_statistics(images, np.arange(0, len(images), 2))
    pixels = images[::2] / 255
    assert mean == pytest.approx(pixels.mean(), rel=1e-12)
    assert std == pytest.approx(pixels.std(), rel=1e-12)


def test_the_splits_are_as_the_contract_says(digits_folder: Path, digits_raw: Path) -> None:
    sizes = {}
    for name in ("train", "validation", "test"):
        dataset = load_split(digits_folder, name)
        assert dataset.data.dtype == torch.uint8
        assert dataset.data.shape == (len(dataset), 1, 28, 28)
        assert dataset.labels.dtype == torch.int64
        sizes[name] = len(dataset)
        assert np.load(digits_folder / name / "images.npy").shape == dataset.data.shape
    assert sizes == {"train": 1078, "validation": 120, "test": 599}
    info = load_info(digits_folder)
    assert (info.name, info.classes) == ("digits", list("0123456789"))
    assert 0.1 < info.mean < info.std < 0.4
    test = read_idx(digits_raw / "digits/test-images.idx")
    assert np.array_equal(load_split(digits_folder, "test").data[:, 0].numpy(), test)


def test_the_same_raw_files_give_the_same_bytes(digits_raw: Path, tmp_path: Path) -> None:
    for name in "ab":
        write_splits(read_raw(digits_raw), 0.2, tmp_path / name)
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 7
    for file in files:
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_saved_rows_are_what_numpy_saves(tmp_path: Path) -> None:
    chunk = CHUNK // 2**20  # rows of 1 MiB
    array = np.arange(2 * chunk * 2**17, dtype=np.int64).reshape(2 * chunk, 2**17)
    for count in (0, 1, chunk, 2 * chunk - 1):
        indices = np.arange(len(array))[::-1][:count].copy()
        save_rows(tmp_path / "a.npy", array, indices)
        np.save(tmp_path / "b.npy", array[indices])
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


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
        read_raw(raw)


def test_fewer_labels_than_images(raw: Path) -> None:
    replace(raw, LABELS, read_idx(raw / LABELS)[:-1])
    with pytest.raises(DamagedFileError, match=r"found uint8 \(1198, 28, 28\), expected .*\(1197,"):
        read_raw(raw)


def test_images_of_another_size(raw: Path) -> None:
    replace(raw, IMAGES, read_idx(raw / IMAGES)[:, :27])
    expected = r"test-images\.idx: found images of \(1, 28, 28\), expected \(1, 27, 28\)"
    with pytest.raises(DamagedFileError, match=expected):
        read_raw(raw)
    replace(raw, IMAGES, read_idx(raw / IMAGES)[:, 0])
    with pytest.raises(DamagedFileError, match=r"found uint8 \(1198, 28\), expected .* H, W\)"):
        read_raw(raw)


def test_images_in_colour_keep_their_shape(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 9, 16), np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 2
    files = {}
    for part in PARTS:
        write_idx(tmp_path / f"raw/{part}.idx", images if "images" in part else labels)
        files[part] = {"path": f"{part}.idx", "sha256": sha256(tmp_path / f"raw/{part}.idx")}
    description = {"name": "folder", "classes": ["a", "b"], "picture": "photo", "files": files}
    (tmp_path / "raw/dataset.json").write_text(json.dumps(description))
    write_splits(read_raw(tmp_path / "raw"), 0, tmp_path)
    info = load_info(tmp_path)
    assert (info.shape, info.picture) == ([3, 9, 16], "photo")
    assert info.mean == pytest.approx(images.mean() / 255)
    assert np.array_equal(load_split(tmp_path, "test").data.numpy(), images)


def test_images_and_labels_swapped(raw: Path) -> None:
    images, labels = (raw / IMAGES).read_bytes(), (raw / LABELS).read_bytes()
    (raw / IMAGES).write_bytes(labels)
    (raw / LABELS).write_bytes(images)
    with pytest.raises(DamagedFileError, match=r"train-images\.idx: found SHA-256"):
        read_raw(raw)


@pytest.mark.parametrize("content", [b"", b"<html>", bytes([0, 0, 8, 1, 0, 0, 0, 0])])
def test_a_foreign_file(raw: Path, content: bytes) -> None:
    (raw / IMAGES).write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"train-images\.idx: found SHA-256 .* expected"):
        read_raw(raw)


def test_a_missing_file(raw: Path) -> None:
    (raw / IMAGES).unlink()
    with pytest.raises(
        DamagedFileError, match=r"train-images\.idx: found no file, expected SHA-256"
    ):
        read_raw(raw)


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
        read_raw(raw)
    assert path.name in str(caught.value)


def test_more_images_take_hardly_more_memory(raw: Path, tmp_path: Path) -> None:
    images, labels = read_idx(raw / IMAGES), read_idx(raw / LABELS)
    peaks = []
    for times in (10, 100):
        replace(raw, IMAGES, np.concatenate([images] * times))
        replace(raw, LABELS, np.concatenate([labels] * times))
        tracemalloc.start()
        write_splits(read_raw(raw), 0.1, tmp_path / "processed")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 90 * images.nbytes / 4


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"name": 1, "classes": [], "files": {}}', "\x80"]
)
def test_a_damaged_description(raw: Path, text: str) -> None:
    (raw / "dataset.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"dataset\.json"):
        read_raw(raw)


def test_a_missing_description(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory; 'dvc repro download'"):
        read_raw(tmp_path)
