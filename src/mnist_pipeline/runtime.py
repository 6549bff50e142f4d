"""Where a model runs, and where its random numbers come from."""

import hashlib
import os

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from . import distributed
from .errors import UserError

# Asked for by torch.use_deterministic_algorithms, and read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def deterministic() -> None:
    """Let torch use only algorithms that give the same bytes every time.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    torch.set_deterministic_debug_mode("error")
    # Nothing reads uninitialized memory here, so filling it is time lost.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_memory() -> None:
    """Let the C library keep what a training step frees, for the next step.

    glibc gives freed memory back to the system above twice the size of the largest block freed so
    far, and the system clears each page that it hands out anew: a sixth of a step of the tutorial's
    network, a third of the recipe quick's. So a block of the largest size that glibc learns from is
    freed here, untouched. Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def stream_seed(seed: int, stream: str, epoch: int) -> int:
    """A seed for one use of random numbers in one epoch.

    Each use draws from a stream of its own, so that none shifts another's, and each epoch starts
    its streams anew, so that an epoch can be repeated without those before it.
    """
    digest = hashlib.sha256(f"{seed} {stream} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def choose_device(name: str) -> torch.device:
    """The device that the setting `device` asks for; "auto" takes a GPU where there is one.

    Raises UserError: the device isn't there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(candidate for candidate, there in available.items() if there)
    if not available[name]:
        there = ", ".join(candidate for candidate, there in available.items() if there)
        raise UserError(
            f"device: found {name}, which torch can't use here; expected auto or {there}"
        )
    return torch.device(name)


def engine(device: torch.device) -> dict[str, str | int]:
    """What else shapes the bytes of a result: torch's version, the processes, devices, threads."""
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    return {
        "torch": torch.__version__,
        "device": device.type,
        "devices": max(gpus, 1),
        "processes": distributed.size(),
        "threads": torch.get_num_threads(),
    }


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` on `device`, prepared for sharing every batch with others where there are any.

    Among processes that torchrun started it is a DistributedDataParallel; in one process with
    several GPUs a DataParallel, as in the tutorial.
    """
    model = model.to(device)
    if distributed.size() > 1:
        if device.type == "cuda":  # torch has none for the CPU
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        shared = DistributedDataParallel(model, gradient_as_bucket_view=True)
        shared.broadcast_buffers = False  # as an argument, torch 2.15 has another name for it
        # After its first backward it lays out its buffers anew, which changes the order of later
        # sums. With a pass for nothing, a resumed training sums as an undisturbed one.
        shared.eval()(torch.zeros(1, 1, 28, 28, device=device)).sum().backward()
        shared.zero_grad()
        return shared
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if gpus > 1:
        print(f"Let's use {gpus} GPUs!")
        print("A process a GPU is faster: 'launcher' in params.yaml")
        return nn.DataParallel(model)
    return model
