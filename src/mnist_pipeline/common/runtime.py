"""Device, determinism, random streams, memory; the environment that shapes a result."""

import hashlib
import os

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .distributed import world_size
from .errors import UserError

# Required by torch.use_deterministic_algorithms; CUDA reads it when it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_deterministic_algorithms() -> None:
    """Allow only algorithms that give the same bytes every time.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    torch.set_deterministic_debug_mode("error")
    # No code here reads uninitialized memory, so filling it would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_memory() -> None:
    """Let the C library keep the memory that a training step frees for the next step.

    glibc returns freed blocks to the system if they are larger than twice the largest block freed
    so far, and the system clears each page again before it hands it out. Measured: a sixth of a
    step of the default network, a third of a step of recipes/quick. So free the largest block that
    glibc learns from, without touching it. No effect on other C libraries.
    Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def stream_seed(seed: int, stream: str, epoch: int) -> int:
    """Seed of one random stream ("shuffle", "dropout", ...) in one epoch, in [0, 2**63).

    Separate streams do not shift each other. Reseeding each epoch lets a resumed run repeat an
    epoch without the ones before it.
    """
    digest = hashlib.sha256(f"{seed} {stream} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def choose_device(name: str) -> torch.device:
    """The device that the setting `device` names; "auto" picks a GPU if there is one.

    Raises UserError: torch cannot use that device here.
    """
    usable = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(candidate for candidate in usable if usable[candidate])
    if not usable[name]:
        choices = ", ".join(candidate for candidate in usable if usable[candidate])
        raise UserError(
            f"device: found {name}, which torch cannot use here; expected auto or {choices}"
        )
    return torch.device(name)


def environment(device: torch.device) -> dict[str, str | int]:
    """Environment that affects bit-exact results."""
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    return {
        "torch": torch.__version__,
        "device": device.type,
        "devices": max(gpus, 1),
        "processes": world_size(),
        "threads": torch.get_num_threads(),
    }


def parallelize(model: nn.Module, device: torch.device) -> nn.Module:
    """Move `model` to `device` and wrap it to share each batch with other GPUs or ranks.

    Under torchrun the wrapper is DistributedDataParallel; in one process with several GPUs it is
    DataParallel, as in the tutorial.
    """
    model = model.to(device)
    if world_size() > 1:
        if device.type == "cuda":  # torch has no SyncBatchNorm for CPUs
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
        parallel.broadcast_buffers = False  # as an argument, torch 2.15 renames it
        # DDP rebuilds its buckets after the first backward pass, which changes the order of later
        # sums. This extra pass makes a resumed run sum in the same order as an undisturbed one.
        parallel.eval()(torch.zeros(1, 1, 28, 28, device=device)).sum().backward()
        parallel.zero_grad()
        return parallel
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if gpus > 1:
        print(f"Let's use {gpus} GPUs!")
        print("One process per GPU is faster: see 'launcher' in params.yaml")
        return nn.DataParallel(model)
    return model
