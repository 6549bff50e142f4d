"""Dataset and DataLoader: the tutorial's interface, whole batches, an order fixed by the seed."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mnist_pipeline.data import (
    BLOCK,
    WINDOW,
    Batch,
    BatchSampler,
    ImageDataset,
    Shuffle,
    load_split,
    make_loader,
)
from mnist_pipeline.errors import UserError
from mnist_pipeline.tensorfiles import Rows, save_tensors


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
    st.sampled_from([False, True, "blocks"]),
    st.integers(0, 2**63 - 1),
)
def test_an_epoch_has_every_index_once(length: int, size: int, shuffle: Shuffle, seed: int) -> None:
    sampler = BatchSampler(length, size, shuffle, seed)
    batches = list(sampler)
    assert sorted(torch.cat([*batches, torch.tensor([], dtype=torch.int64)]).tolist()) == list(
        range(length)
    )
    assert all(len(batch) == size for batch in batches[:-1])
    if length:
        assert len(batches) == len(sampler)


@pytest.mark.parametrize("shuffle", [True, "blocks"])
def test_the_order_is_a_function_of_seed_and_epoch(shuffle: Shuffle) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = BatchSampler(50, 50, shuffle, seed)
        sampler.set_epoch(epoch)
        return next(iter(sampler)).tolist()

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    assert len({tuple(order) for order in orders}) == 4
    torch.rand(10)
    assert order(0, 1) == orders[0]


@pytest.mark.parametrize("length", [BLOCK + 1, WINDOW, WINDOW + 1, 3 * WINDOW - 1])
def test_blocks_have_every_index_once(length: int) -> None:
    order = next(iter(BatchSampler(length, length, "blocks")))
    assert torch.equal(order.sort().values, torch.arange(length))


def test_blocks_are_read_whole_and_mixed_with_others() -> None:
    order = next(iter(BatchSampler(4 * WINDOW, 4 * WINDOW, "blocks")))
    windows = order.split(WINDOW)
    blocks = [set((window // BLOCK).tolist()) for window in windows]
    assert [len(window) for window in blocks] == [WINDOW // BLOCK] * 4
    assert len(set.union(*blocks)) == 4 * WINDOW // BLOCK
    assert all(max(window) - min(window) > WINDOW // BLOCK for window in blocks), "from all over"
    assert len(set((windows[0][:1000] // BLOCK).tolist())) == WINDOW // BLOCK


def test_neither_workers_nor_the_global_generator_matter(digits: ImageDataset) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        loader = make_loader(digits, 100, shuffle=True, seed=3, num_workers=workers)
        return [labels.clone() for _ in range(2) for _, labels in loader]

    before = torch.get_rng_state()
    alone, shared = batches(0), batches(2)
    assert all(map(torch.equal, alone, shared))
    assert torch.equal(torch.get_rng_state(), before)


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
    same = Rows(np.ones((1, 1, 28, 28), np.uint8), np.zeros(count, np.int64))
    labels = np.ones(count, np.int64)
    path = tmp_path / "train.safetensors"
    save_tensors(path, {"images": same, "labels": labels}, {"split": "train"})

    def anonymous() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return 1024 * int(found[1])

    before = anonymous()
    dataset, _ = load_split(tmp_path, "train")
    peak = max(anonymous() for _ in make_loader(dataset, 500, shuffle=True))
    assert peak - before < dataset.data.nbytes / 4


def test_a_split_under_anothers_name_is_refused(digits_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test.safetensors").write_bytes((digits_folder / "train.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"test\.safetensors: holds no test split"):
        load_split(tmp_path, "test")
    with pytest.raises(UserError, match="no such file; 'dvc repro preprocess' writes it"):
        load_split(tmp_path, "validation")
