"""Devices: choosing one, and preparing a model for it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..common.errors import UserError
from .distributed import world_size
from .portable import pad_linear_layers


def choose_device(name: str, arithmetic: str = "native") -> torch.device:
    """The device that the setting `device` names.

    "auto" is a GPU if there is one; with portable arithmetic it is always the CPU.
    Raises UserError: torch cannot use that device here.
    """
    usable = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        fastest = next(candidate for candidate in usable if usable[candidate])
        name = "cpu" if arithmetic == "portable" else fastest
    if not usable[name]:
        choices = ", ".join(candidate for candidate in usable if usable[candidate])
        raise UserError(
            f"device: found {name}, which torch cannot use here; expected auto or {choices}"
        )
    return torch.device(name)


def prepare_model(
    model: nn.Module, arithmetic: str, device: torch.device, shape: Sequence[int]
) -> nn.Module:
    """Move `model` to `device`, and give it what the processors need.

    On a CPU with portable arithmetic its linear layers are padded. Under torchrun it is wrapped in
    DistributedDataParallel; in one process with several GPUs in DataParallel, as in the tutorial.
    `shape` is that of one input of the model.
    """
    model = model.to(device)
    if arithmetic == "portable" and device.type == "cpu":
        pad_linear_layers(model)
    if world_size() > 1:
        if device.type == "cuda":  # torch has no SyncBatchNorm for CPUs
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
        parallel.broadcast_buffers = False  # as an argument, torch 2.15 renames it
        # DDP rebuilds its buckets after the first backward pass, which changes the order of later
        # sums. This extra pass makes a resumed run sum in the same order as an undisturbed one.
        parallel.eval()(torch.zeros(1, *shape, device=device)).sum().backward()
        parallel.zero_grad()
        return parallel
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if gpus > 1:
        print(f"Let's use {gpus} GPUs!")
        print("One process per GPU is faster: see 'launcher' in params.yaml")
        return nn.DataParallel(model)
    return model
