"""Dataset, DataLoader, and the order of the batches."""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..common.errors import UserError
from ..common.files import written_by
from ..runtime.distributed import LocalBatch, rank, shard, world_size
from ..runtime.streams import stream_seed

Batch = tuple[Tensor, Tensor]
"""Images uint8 [B, C, H, W] and labels int64 [B]."""


class ImageDataset(Dataset):
    """Images and labels, with an optional transform of the images.

    The index may be a number, a slice or a tensor of indices: `dataset[7]` is one image
    [C, H, W] and its label, and `dataset[torch.tensor([7, 3])]` a batch, gathered and transformed
    in one operation.
    """

    def __init__(
        self, data: Tensor, labels: Tensor, transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """`data` uint8 [N, C, H, W], `labels` int64 [N]."""
        if len(data) != len(labels):
            raise ValueError(f"{len(data)} images and {len(labels)} labels")
        self.data = data
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        """Return the image and label, or the batch, at `index`."""
        if isinstance(index, Tensor):  # five times as fast as data[index]
            images, labels = self.data.index_select(0, index), self.labels.index_select(0, index)
        else:
            images, labels = self.data[index], self.labels[index]
        return (self.transform(images) if self.transform else images), labels

    def shard(self) -> "ImageDataset":
        """This rank's shard of the dataset; all of it in a single process."""
        local = shard(len(self), rank(), world_size())
        return ImageDataset(self.data[local], self.labels[local], self.transform)

    def to(self, device: torch.device) -> "ImageDataset":
        """Return the dataset with its tensors on `device`, so that batches are gathered there.

        Return it unchanged if the tensors need more than half of a GPU's free memory; each batch
        is then moved by itself.
        """
        size = self.data.nbytes + self.labels.nbytes
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return ImageDataset(self.data.to(device), self.labels.to(device), self.transform)


class _ByValue(Tensor):
    """A tensor that is sent to another process through a pipe, and is a plain one there.

    torch would share its memory, for which it needs room in /dev/shm, of which a container may have
    64 MiB, and a socket in TMPDIR, whose path may be too long. Where that fails, it fails in a
    thread, and the other process waits for ever.
    """

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[[np.ndarray], Tensor], tuple]:
        return torch.from_numpy, (self.numpy(),)


def _by_value(batch: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(tensor.as_subclass(_ByValue) for tensor in batch)


@dataclass(eq=False)
class BatchSampler(Sampler[Tensor]):
    """Indices of each batch of an epoch, int64 [B]; the last batch may be smaller.

    The order is a function of `seed` and the epoch only: other uses of random numbers and the
    number of workers do not change it. If `sharded`, each rank gets its local batches.
    """

    length: int
    batch_size: int  # of the global batch
    shuffle: bool = False
    seed: int = 0
    device: torch.device | None = None  # of the indices
    sharded: bool = False
    for_workers: bool = False  # to be sent to other processes
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that determines the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches."""
        return -(-self.length // self.batch_size)

    def sizes(self) -> Iterator[int]:
        """Yield the size of one global batch after the other."""
        for start in range(0, self.length, self.batch_size):
            yield min(self.batch_size, self.length - start)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the indices of one batch after the other."""
        if self.shuffle:
            generator = torch.Generator().manual_seed(stream_seed(self.seed, "shuffle", self.epoch))
            order = torch.randperm(self.length, generator=generator)
        else:
            order = torch.arange(self.length)
        order = order.to(self.device)
        for start in range(0, self.length, self.batch_size):  # order.split() creates all views
            batch = order[start : start + self.batch_size]
            if self.sharded:
                batch = batch[LocalBatch.of(len(batch), rank(), world_size()).images]
            yield batch.as_subclass(_ByValue) if self.for_workers else batch


class BatchLoader(DataLoader[Batch]):
    """A DataLoader of whole batches; call its sampler's `set_epoch` before each epoch."""

    sampler: BatchSampler


def make_loader(
    dataset: ImageDataset,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    sharded: bool = False,
) -> BatchLoader:
    """A DataLoader that fetches each batch with a single index operation."""
    device, workers = dataset.labels.device, num_workers > 0
    return BatchLoader(
        dataset,
        sampler=BatchSampler(len(dataset), batch_size, shuffle, seed, device, sharded, workers),
        batch_size=None,  # the sampler yields whole batches
        num_workers=num_workers,
        collate_fn=_by_value if workers else None,
        persistent_workers=workers,
        generator=torch.Generator(),  # seeds the workers instead of torch's global generator
    )


@dataclass(frozen=True)
class DatasetInfo:
    """Content of dataset.json."""

    name: str
    classes: list[str]
    mean: float  # of the training pixels in [0, 1]
    std: float
    shape: list[int]  # of an image, [C, H, W]
    picture: str  # what the images were made from, glyph or photo


def load_info(folder: Path) -> DatasetInfo:
    """Read `folder`/dataset.json. Raises UserError: missing or damaged file."""
    path = folder / "dataset.json"
    try:
        return DatasetInfo(**json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    except (ValueError, TypeError) as error:
        raise _unusable(path, f"not what preprocess writes ({error})") from None


def load_split(folder: Path, split: str) -> ImageDataset:
    """Memory-map a split written by `write_splits`. Raises UserError: missing or damaged file."""
    return _MappedDataset(folder / split, load_info(folder).shape)


class _MappedDataset(ImageDataset):
    """A memory-mapped split.

    It is pickled as its path: DataLoader workers that are not forked map the files again instead of
    receiving a copy in shared memory.
    """

    def __init__(self, folder: Path, shape: Sequence[int]) -> None:
        images = _load_array(folder / "images.npy", np.uint8, tuple(shape))
        labels = _load_array(folder / "labels.npy", np.int64, ())
        if len(images) != len(labels):
            problem = f"found {len(labels)} labels, expected {len(images)}, one per image"
            raise _unusable(folder / "labels.npy", problem)
        super().__init__(images, labels)
        self._folder, self._shape = folder, shape
        self._images, self._labels = images, labels

    def __reduce__(self) -> tuple[Callable[..., ImageDataset], tuple[object, ...]]:
        if self.data is self._images and self.labels is self._labels and not self.transform:
            return _MappedDataset, (self._folder, self._shape)
        return ImageDataset, (self.data, self.labels, self.transform)  # the user has replaced them


def _load_array(path: Path, dtype: type[np.generic], item_shape: tuple[int, ...]) -> Tensor:
    """Memory-map a .npy file [N, *item_shape] as a tensor; the tensor must not be written to.

    The map is read-only: Linux may refuse a copy-on-write map that is larger than memory.
    """
    try:
        array = np.load(path, mmap_mode="r")
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    except (ValueError, EOFError) as error:
        raise _unusable(path, f"not an array that preprocess writes ({error})") from None
    if array.dtype != dtype or array.shape[1:] != item_shape or not array.ndim:
        expected = f"{dtype.__name__} of {('N', *item_shape)}".replace("'", "")
        raise _unusable(path, f"found {array.dtype} of {array.shape}, expected {expected}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _unusable(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: {problem}; {written_by('preprocess', path)}")
