"""Dataset and DataLoader: the tutorial's interface, whole batches, an order fixed by the seed."""

import os
import pickle
import re
import shutil
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.splits.batches import (
    Batch,
    BatchSampler,
    ImageDataset,
    load_info,
    load_split,
    make_loader,
)
from mnist_pipeline.splits.write import save_rows

DESCRIPTION = (
    '{"name": "mnist", "classes": ["0"], "mean": 0.1, "std": 0.3, "shape": [1, 28, 28],'
    ' "picture": "glyph"}'
)


def test_one_index_gives_an_image_and_many_a_batch(digits: ImageDataset) -> None:
    image, label = digits[7]
    assert image.shape == (1, 28, 28)
    images, labels = digits[torch.tensor([3, 7])]
    assert images.shape == (2, 1, 28, 28)
    assert torch.equal(images[1], image)
    assert labels[1] == label
    assert torch.equal(digits[6:8][0][1], image)


def test_a_transform_is_applied_to_images_alone(digits: ImageDataset) -> None:
    inverted = ImageDataset(digits.data, digits.labels, transform=lambda images: 255 - images)
    assert torch.equal(inverted[5][0], 255 - digits[5][0])
    images, labels = next(iter(make_loader(inverted, 4)))
    assert torch.equal(images, 255 - digits.data[:4])
    assert torch.equal(labels, digits.labels[:4])


def test_the_tutorials_own_loader_works_on_it(digits: ImageDataset) -> None:
    images, labels = next(iter(DataLoader(digits, batch_size=4, shuffle=True)))
    assert images.shape == (4, 1, 28, 28)
    assert labels.shape == (4,)


def test_lengths_must_agree(digits: ImageDataset) -> None:
    with pytest.raises(ValueError, match="1078 images and 3 labels"):
        ImageDataset(digits.data, digits.labels[:3])


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 100),
    st.integers(1, 120),
    st.booleans(),
    st.integers(0, 2**63 - 1),
)
def test_an_epoch_has_every_index_once(length: int, size: int, shuffle: bool, seed: int) -> None:
    sampler = BatchSampler(length, size, shuffle, seed)
    batches = list(sampler)
    assert sorted(torch.cat([*batches, torch.tensor([], dtype=torch.int64)]).tolist()) == list(
        range(length)
    )
    assert all(len(batch) == size for batch in batches[:-1])
    if length:
        assert len(batches) == len(sampler)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = BatchSampler(50, 50, True, seed)
        sampler.set_epoch(epoch)
        return next(iter(sampler)).tolist()

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    assert len({tuple(order) for order in orders}) == 4
    torch.rand(10)
    assert order(0, 1) == orders[0]


def test_neither_workers_nor_the_global_generator_matter(digits: ImageDataset) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        loader = make_loader(digits, 100, shuffle=True, seed=3, num_workers=workers)
        return [labels.clone() for _ in range(2) for _, labels in loader]

    before = torch.get_rng_state()
    alone, shared = batches(0), batches(2)
    assert all(map(torch.equal, alone, shared))
    assert torch.equal(torch.get_rng_state(), before)


# macOS can fork too, but its own libraries may crash in the child.
METHODS = ["fork", "spawn", "forkserver"] if sys.platform == "linux" else ["spawn"]


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_maps_the_split_again(digits_folder: Path, method: str) -> None:
    """The default is fork on Linux, spawn on macOS and Windows, forkserver from Python 3.14."""
    dataset = load_split(digits_folder, "train")
    expected = list(make_loader(dataset, 100, shuffle=True, seed=3))
    loader = make_loader(dataset, 100, shuffle=True, seed=3, num_workers=2)
    loader.multiprocessing_context = method
    for (images, labels), (expected_images, expected_labels) in zip(loader, expected, strict=True):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)
    assert not dataset.data.is_shared(), "copied to shared memory"


def test_a_split_is_pickled_as_its_path(digits_folder: Path) -> None:
    dataset = load_split(digits_folder, "train")
    assert len(pickle.dumps(dataset)) < 1000
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy.data, dataset.data)
    dataset.transform = torch.neg
    dataset.data, dataset.labels = dataset.data[5:], dataset.labels[5:]
    for other in (dataset, dataset.shard()):
        copy = pickle.loads(pickle.dumps(other))
        assert torch.equal(copy.data, dataset.data)
        assert torch.equal(copy.labels, dataset.labels)
        assert copy.transform is torch.neg


def test_a_batch_is_fetched_by_one_operation(digits: ImageDataset) -> None:
    class Counting(ImageDataset):
        fetched = 0

        def __getitem__(self, index: int | slice | torch.Tensor) -> Batch:
            self.fetched += 1
            return super().__getitem__(index)

    dataset = Counting(digits.data, digits.labels)
    loader = make_loader(dataset, 64)
    assert sum(len(labels) for _, labels in loader) == len(digits)
    assert dataset.fetched == len(loader) == 17


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_epoch_leaves_the_images_in_the_file(tmp_path: Path) -> None:
    count = 300_000  # 224 MiB
    images = np.broadcast_to(np.ones((1, 1, 28, 28), np.uint8), (count, 1, 28, 28))
    save_rows(tmp_path / "train/images.npy", images, np.arange(count))
    save_rows(tmp_path / "train/labels.npy", np.ones(count, np.int64), np.arange(count))
    (tmp_path / "dataset.json").write_text(DESCRIPTION)

    def anonymous() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return 1024 * int(found[1])

    before = anonymous()
    dataset = load_split(tmp_path, "train")
    peak = max(anonymous() for _ in make_loader(dataset, 500, shuffle=True))
    assert peak - before < dataset.data.nbytes / 4


def test_a_file_larger_than_memory_can_be_mapped(tmp_path: Path) -> None:
    count = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 784
    (tmp_path / "train").mkdir()
    for name, shape in (("images", (count, 1, 28, 28)), ("labels", (count,))):
        descr = "|u1" if name == "images" else "<i8"
        with (tmp_path / f"train/{name}.npy").open("wb") as file:  # a hole: it takes no disk space
            header = {"descr": descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(descr).itemsize)
    (tmp_path / "dataset.json").write_text(DESCRIPTION)
    dataset = load_split(tmp_path, "train")
    assert len(dataset) == count
    assert dataset[torch.tensor([count - 1])][0].sum() == 0


def array_bytes(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("images", b"", "not an array that preprocess writes"),
        ("images", b"x" * 1000, "not an array that preprocess writes"),
        ("images", array_bytes(np.array([object()])), "not an array that preprocess writes"),
        (
            "images",
            array_bytes(np.zeros((3, 28, 28), np.uint8)),
            "expected uint8 of (N, 1, 28, 28)",
        ),
        ("images", array_bytes(np.zeros((3, 1, 28, 28))), "found float64 of (3, 1, 28, 28)"),
        ("labels", array_bytes(np.zeros((1078, 2), np.int64)), "expected int64 of (N,)"),
        ("labels", array_bytes(np.array(3)), "found int64 of (), expected int64 of (N,)"),
        ("labels", array_bytes(np.zeros(5, np.int64)), "found 5 labels, expected 1078"),
    ],
)
def test_a_damaged_split_is_named(
    digits_folder: Path, tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    folder = Path(shutil.copytree(digits_folder, tmp_path / "processed"))
    path = folder / f"train/{name}.npy"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_split(folder, "train")
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert problem in message
    assert message.endswith("; dvc repro preprocess")


@pytest.mark.parametrize("cut", [1, 1000, 500_000])
def test_a_truncated_split_is_named(digits_folder: Path, tmp_path: Path, cut: int) -> None:
    folder = Path(shutil.copytree(digits_folder, tmp_path / "processed"))
    path = folder / "train/images.npy"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"images\.npy: not an array that preprocess writes"):
        load_split(folder, "train")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "a"}', '{"other": 1}'])
def test_a_damaged_description_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json: not what preprocess writes"):
        load_info(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for load in (load_info, lambda folder: load_split(folder, "train")):
        with pytest.raises(UserError, match="No such file or directory; 'dvc repro preprocess'"):
            load(tmp_path)
