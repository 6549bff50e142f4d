"""Cached tensors → Dataset → DataLoader."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from . import distributed
from .errors import UserError
from .runtime import stream_seed
from .tensorfiles import load_tensors

Batch = tuple[Tensor, Tensor]
"""Images uint8 [B, 1, 28, 28] and labels int64 [B]."""

Shuffle = bool | Literal["blocks"]
"""Any order at all, the file's own (False), or one that `block_order` gives."""

BLOCK, WINDOW = 2**12, 2**16
"""Images read as one, about 3 MiB, and images mixed with one another, about 50 MiB."""


class ImageDataset(Dataset):
    """Images and labels of equal length, with an optional transform of the images.

    An index may be one number or many: `dataset[7]` is an image [1, 28, 28] and its label,
    `dataset[torch.tensor([7, 3])]` a whole batch in one operation, the transform included.
    """

    def __init__(
        self, data: Tensor, labels: Tensor, transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """`data` uint8 [N, 1, 28, 28], `labels` int64 [N]."""
        if len(data) != len(labels):
            raise ValueError(f"{len(data)} images and {len(labels)} labels")
        self.data = data
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        """The image and label, or the batch of them, at `index`."""
        if isinstance(index, Tensor):  # 5 times as fast as data[index]: it copies whole images
            images, labels = self.data.index_select(0, index), self.labels.index_select(0, index)
        else:
            images, labels = self.data[index], self.labels[index]
        return (self.transform(images) if self.transform else images), labels

    def part(self) -> "ImageDataset":
        """What this process takes of it, of those that train together: all of it, in one alone."""
        share = distributed.share(len(self))
        return ImageDataset(self.data[share], self.labels[share], self.transform)

    def to(self, device: torch.device) -> "ImageDataset":
        """The same dataset with its tensors on `device`, so that its batches are made there.

        On a GPU without room for them they stay where they are; each batch then goes there alone.
        """
        size = self.data.nbytes + self.labels.nbytes
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return ImageDataset(self.data.to(device), self.labels.to(device), self.transform)


class BatchSampler(Sampler[Tensor]):
    """The indices of each batch of an epoch, int64 [B]; the last batch may be smaller.

    The order is a function of `seed` and the epoch alone: whatever else draws random numbers, and
    however many workers load the batches, the same epoch sees the same batches. Of `shared` ones,
    each of the processes that train together takes its part.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: Shuffle = False,
        seed: int = 0,
        device: torch.device | None = None,
        shared: bool = False,
    ) -> None:
        """The indices are on `device`, so that taking a batch from data there waits for nothing."""
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.device = device
        self.shared = shared
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The number of batches."""
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the indices of one batch after the other."""
        if self.shuffle:
            generator = torch.Generator().manual_seed(stream_seed(self.seed, "shuffle", self.epoch))
            if self.shuffle == "blocks":
                order = block_order(self.length, generator)
            else:
                order = torch.randperm(self.length, generator=generator)
        else:
            order = torch.arange(self.length)
        order = order.to(self.device)
        for start in range(0, self.length, self.batch_size):  # split() would make all views at once
            batch = order[start : start + self.batch_size]
            yield batch[distributed.part_of_batch(len(batch))[0]] if self.shared else batch


def block_order(length: int, generator: torch.Generator) -> Tensor:
    """A random order of `range(length)`, int64, that keeps to a part of the file at a time.

    The file's blocks come in random order, and the images of each `WINDOW / BLOCK` blocks that
    follow one another are mixed. So the disk reads whole blocks, each once in an epoch.
    """
    blocks = torch.arange(length).split(BLOCK)
    order = torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=generator)])
    windows = order.split(WINDOW)
    return torch.cat([w[torch.randperm(len(w), generator=generator)] for w in windows])


def make_loader(
    dataset: ImageDataset,
    batch_size: int,
    shuffle: Shuffle = False,
    seed: int = 0,
    num_workers: int = 0,
    shared: bool = False,
) -> DataLoader[Batch]:
    """A DataLoader that fetches every batch of `dataset` by one index operation.

    Of `shared` batches it is this process's part, see distributed.part_of_batch. Its sampler is a
    BatchSampler, whose `set_epoch` is to be called before each epoch.
    """
    return DataLoader(
        dataset,
        sampler=BatchSampler(
            len(dataset), batch_size, shuffle, seed, dataset.labels.device, shared
        ),
        batch_size=None,  # the sampler's items are whole batches
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator(),  # for its workers; not the global one
    )


def load_split(
    folder: Path, split: str, like: Mapping[str, Any] | None = None
) -> tuple[ImageDataset, dict[str, Any]]:
    """A split's dataset and header, see `splits.write_splits`; the tensors are memory-mapped.

    Raises UserError: the file is missing, damaged, another split, or not of the dataset and the
    classes of `like`, the header of what it is used with.
    """
    path = folder / f"{split}.safetensors"
    tensors, header = load_tensors(path, made_by="preprocess")
    if header.get("split") != split or set(tensors) != {"images", "labels"}:
        raise UserError(f"{path}: holds no {split} split; 'dvc repro preprocess' writes it")
    for key in ("dataset", "classes"):
        if like is not None and header[key] != like[key]:
            raise UserError(
                f"{path}: its {key} is {header[key]}, expected {like[key]} as in what it is used"
                " with; 'dvc repro' brings both up to date"
            )
    return ImageDataset(tensors["images"], tensors["labels"]), header
