"""One training in many processes, which torchrun starts: who does what, and how they talk.

In a process on its own, the usual case, every function here returns at once.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
import torch.distributed as dist

from .errors import UserError


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first_here() -> bool:
    """Whether this is the first process of its host: the one that prints and writes.

    Not that of rank 0 alone: torchrun numbers the hosts by their names, and DVC looks for the outs
    on the host it runs on.
    """
    return not dist.is_initialized() or int(os.environ["LOCAL_RANK"]) == 0


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Be one of the processes that torchrun started, if it did; yields this one's own device.

    Source: https://docs.pytorch.org/docs/stable/elastic/run.html
    Raises UserError: there are fewer GPUs than processes, or no way of talking from `device`.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(
                f"launcher: found process {local + 1} of this host, which has {gpus} GPUs;"
                " expected a process a GPU: lower --nproc-per-node, or set device: cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise UserError(f"device: found {device.type}, expected cpu or cuda under torchrun")
    gpu = device if device.type == "cuda" else None
    dist.init_process_group("nccl" if gpu else "gloo", device_id=gpu)
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(sys.stdout if is_first_here() else nowhere),
        ):
            yield device
    finally:
        dist.destroy_process_group()


def share(length: int) -> slice:
    """This process's part of `length` things in a row; no two parts differ by more than one."""
    return slice(length * rank() // size(), length * (rank() + 1) // size())


def part_of_batch(length: int) -> tuple[slice, int]:
    """This process's part of a batch of `length` images, and how many of them count as its own.

    Every process takes part in every step. In one with fewer images than processes, those that are
    left without take the first image, and count none.
    """
    part = share(length)
    own = part.stop - part.start
    return (part, own) if own else (slice(0, 1), 0)


def total(numbers: Sequence[float]) -> list[float]:
    """Each of `numbers` (as many in all processes) summed over the processes, in float64."""
    if size() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64, device=_device())
    dist.all_reduce(sums)
    return sums.tolist()


def of_each(number: float) -> list[float]:
    """The `number` of each process, by rank."""
    return total([number if each == rank() else 0.0 for each in range(size())])


def average(tensors: Iterator[torch.Tensor]) -> None:
    """Make each of the floating-point `tensors` the mean over the processes, in place."""
    if size() > 1:
        for tensor in tensors:
            if tensor.is_floating_point():
                dist.all_reduce(tensor)
                tensor /= size()


def barrier() -> None:
    """Wait until all processes are here."""
    if size() > 1:
        dist.barrier()


def broadcast(content: bytes, source: int = 0) -> bytes:
    """The `content` that the process of rank `source` has, in every process."""
    if size() == 1:
        return content
    length = torch.tensor([len(content)], device=_device())
    dist.broadcast(length, source)
    if rank() == source:
        buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(_device())
    else:
        buffer = torch.empty(int(length), dtype=torch.uint8, device=_device())
    dist.broadcast(buffer, source)
    return buffer.cpu().numpy().tobytes()


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
