"""Distributed training: process group, ranks, shards and collective operations.

In a single process, the usual case, every function returns at once.
"""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from ..common.errors import UserError

TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Environment variables: how many processes srun or mpirun has started."""


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_local_rank_0() -> bool:
    """Whether this process prints and writes for its host.

    One process per host does, not rank 0 alone: torchrun orders the hosts by their names, and DVC
    looks for the outs on the host where it runs.
    """
    return not dist.is_initialized() or int(os.environ["LOCAL_RANK"]) == 0


@contextmanager
def process_group(device: torch.device, launcher: str = "python") -> Iterator[torch.device]:
    """Join the process group if torchrun launched this process; yield this rank's device.

    Source: https://docs.pytorch.org/docs/stable/elastic/run.html
    Raises UserError: `launcher` started several processes that know nothing of each other, more
    processes than GPUs, or a device without a communication backend.
    """
    if not dist.is_torchelastic_launched():
        tasks = max(int(os.environ.get(name) or 1) for name in TASKS)
        if tasks > 1 and launcher.split()[0] != "python":
            raise UserError(
                f"launcher: found {launcher}, which starts {tasks} processes that do not train"
                " together; expected torchrun to start them (docs/scaling.md)"
            )
        yield device
        return
    if device.type == "cuda":
        local_rank = int(os.environ["LOCAL_RANK"])
        gpus = torch.cuda.device_count()
        if local_rank >= gpus:
            raise UserError(
                f"launcher: found local rank {local_rank} on a host with {gpus} GPUs, expected one"
                " process per GPU; lower --nproc-per-node, or set device: cpu"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise UserError(f"device: found {device.type}, expected cpu or cuda under torchrun")
    gpu = device if device.type == "cuda" else None
    dist.init_process_group("nccl" if gpu else "gloo", device_id=gpu)
    try:
        with (
            Path(os.devnull).open("w", encoding="utf-8") as devnull,
            redirect_stdout(sys.stdout if is_local_rank_0() else devnull),
        ):
            yield device
    finally:
        dist.destroy_process_group()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder to train in, unless torchrun launched this process.

    The system unlocks it when the process ends, however that happens. Windows and some network
    drives lock nothing. Raises UserError: another process holds it, as of one step of srun.
    """
    if sys.platform == "win32" or dist.is_torchelastic_launched():
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(
                    f"{folder}: found another process that trains in this folder, expected one at a"
                    " time; srun and mpirun start several that train together only if launcher is"
                    " torchrun (docs/scaling.md)"
                ) from None
        yield


def shard(length: int, rank: int, world_size: int) -> slice:
    """The slice of `length` items that belongs to a rank; sizes differ by at most one."""
    return slice(length * rank // world_size, length * (rank + 1) // world_size)


@dataclass(frozen=True)
class LocalBatch:
    """What a rank processes of a global batch.

    When the batch is smaller than the world size, idle ranks process image 0 with weight 0, because
    every rank has to take part in every step.
    """

    global_size: int
    count: int  # images of this rank
    images: slice  # of the global batch

    @classmethod
    def of(cls, global_size: int, rank: int, world_size: int) -> "LocalBatch":
        """The local batch of a rank."""
        local = shard(global_size, rank, world_size)
        count = local.stop - local.start
        return cls(global_size, count, local if count else slice(0, 1))

    @property
    def fraction(self) -> float:
        """Of the global batch: the sum over ranks of fraction · loss is its mean loss."""
        return self.count / self.global_size

    def weight(self, loss: torch.Tensor) -> torch.Tensor:
        """Weight of a loss [] in the gradient, as a tensor like it; 1 in a single process.

        DistributedDataParallel averages gradients over ranks; with this weight the average is the
        gradient of the mean loss of the global batch.
        """
        return torch.full_like(loss, self.count * world_size() / self.global_size)


def all_reduce_sum(numbers: Sequence[float]) -> list[float]:
    """Each of `numbers`, of equal length on all ranks, summed over the ranks in float64."""
    if world_size() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64, device=_device())
    dist.all_reduce(sums)
    return sums.tolist()


def all_gather(number: float) -> list[float]:
    """The `number` of every rank, in the order of the ranks."""
    return all_reduce_sum([number if r == rank() else 0.0 for r in range(world_size())])


def all_reduce_mean(tensors: Iterator[torch.Tensor]) -> None:
    """Replace each floating-point tensor by its mean over the ranks, in place."""
    if world_size() > 1:
        for tensor in tensors:
            if tensor.is_floating_point():
                dist.all_reduce(tensor)
                tensor /= world_size()


def barrier() -> None:
    """Wait until every rank has reached this point."""
    if world_size() > 1:
        dist.barrier()


def broadcast(content: bytes, source: int = 0) -> bytes:
    """Return the `content` of rank `source` on every rank."""
    if world_size() == 1:
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
