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

from mnist_pipeline.data import load_split
from mnist_pipeline.errors import UserError
from mnist_pipeline.files import sha256
from mnist_pipeline.idx import DamagedFileError, read_idx, write_idx
from mnist_pipeline.splits import pixel_statistics, read_raw, stratified_split, write_splits


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
    with pytest.raises(UserError, match=r"validation_fraction: found 0\.1, which can't split 10"):
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
        dataset, header = load_split(digits_folder, name)
        assert dataset.data.dtype == torch.uint8
        assert dataset.data.shape == (len(dataset), 1, 28, 28)
        assert dataset.labels.dtype == torch.int64
        assert set(header) == {"dataset", "split", "classes", "mean", "std"}
        assert header["classes"] == list("0123456789")
        sizes[name] = len(dataset)
    assert sizes == {"train": 1078, "validation": 120, "test": 599}
    test = read_idx(digits_raw / "Digits/raw/t10k-images-idx3-ubyte")
    assert np.array_equal(load_split(digits_folder, "test")[0].data[:, 0].numpy(), test)


def test_the_same_raw_files_give_the_same_bytes(digits_raw: Path, tmp_path: Path) -> None:
    for name in "ab":
        write_splits(read_raw(digits_raw), 0.2, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.fixture
def raw(digits_raw: Path, tmp_path: Path) -> Path:
    """A copy of the raw digits that a test may damage."""
    return Path(shutil.copytree(digits_raw, tmp_path / "raw"))


LABELS = "Digits/raw/train-labels-idx1-ubyte"
IMAGES = "Digits/raw/train-images-idx3-ubyte"


def test_a_label_out_of_range(raw: Path) -> None:
    labels = read_idx(raw / LABELS).copy()
    labels[17] = 10
    write_idx(raw / LABELS, labels)
    with pytest.raises(DamagedFileError, match="found label 10 at index 17, expected 0 to 9"):
        read_raw(raw)


def test_fewer_labels_than_images(raw: Path) -> None:
    write_idx(raw / LABELS, read_idx(raw / LABELS)[:-1])
    with pytest.raises(DamagedFileError, match="found 1197 labels, expected 1198"):
        read_raw(raw)


def test_images_of_another_size(raw: Path) -> None:
    write_idx(raw / IMAGES, read_idx(raw / IMAGES)[:, :27])
    with pytest.raises(DamagedFileError, match=r"found uint8 of 1198 × 27 × 28, expected"):
        read_raw(raw)


def test_images_and_labels_swapped(raw: Path) -> None:
    images, labels = (raw / IMAGES).read_bytes(), (raw / LABELS).read_bytes()
    (raw / IMAGES).write_bytes(labels)
    (raw / LABELS).write_bytes(images)
    with pytest.raises(DamagedFileError, match="train-images"):
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
    assert path.name in str(caught.value) or "labels" in str(caught.value)


def test_more_images_take_hardly_more_memory(raw: Path, tmp_path: Path) -> None:
    images, labels = read_idx(raw / IMAGES), read_idx(raw / LABELS)
    description = json.loads((raw / "dataset.json").read_text())
    peaks = []
    for times in (10, 100):
        for kind, path, array in (("images", IMAGES, images), ("labels", LABELS, labels)):
            (raw / path).unlink()  # what is mapped stays
            write_idx(raw / path, np.concatenate([array] * times))
            description["files"][f"train {kind}"]["sha256"] = sha256(raw / path)
        (raw / "dataset.json").write_text(json.dumps(description))
        tracemalloc.start()
        write_splits(read_raw(raw), 0.1, tmp_path / "processed")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 90 * images.nbytes / 4


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"dataset": 1, "classes": [], "files": {}}', "\x80"]
)
def test_a_damaged_description(raw: Path, text: str) -> None:
    (raw / "dataset.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"dataset\.json"):
        read_raw(raw)


def test_a_missing_description(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.json: no such file; 'dvc repro download'"):
        read_raw(tmp_path)
