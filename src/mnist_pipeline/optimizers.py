"""Optimizers and learning-rate schedules: torch's own, by the names and arguments of params.yaml.

To add one: an entry here, and its settings in params.py and params.yaml.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    StepLR,
)


def plain(optimizer: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """The same optimizer without its ties to torch.compile, which nothing here uses.

    torch wraps these methods to keep its compiler out of them, and imports the compiler to do so:
    a second and over 100 MiB in every training.
    """
    methods = {
        name: inspect.unwrap(getattr(optimizer, name))
        for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    }
    methods["step"] = torch.no_grad()(methods["step"])
    return type(optimizer.__name__, (optimizer,), methods)


OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": plain(optim.SGD),
    "adam": plain(optim.Adam),
    "adamw": plain(optim.AdamW),
    "rmsprop": plain(optim.RMSprop),
}


def build_optimizer(
    name: str, settings: Mapping[str, Any], parameters: Iterable[nn.Parameter]
) -> optim.Optimizer:
    """The optimizer of that name; `settings` are the arguments of its class."""
    if name != "rmsprop":  # torch has no fused one: all parameters in one pass over the memory
        settings = {**settings, "fused": True}
    return OPTIMIZERS[name](parameters, **settings)


def build_schedule(
    name: str, settings: Mapping[str, Any], optimizer: optim.Optimizer, epochs: int, steps: int
) -> LRScheduler:
    """The schedule of that name, to be stepped after each of the `steps` batches of each epoch."""
    if name == "constant":
        return ConstantLR(optimizer, factor=1.0)
    if name == "step":
        return StepLR(optimizer, settings["step_size"] * steps, settings["gamma"])
    if name == "cosine":
        return CosineAnnealingLR(optimizer, epochs * steps, **settings)
    if name == "one_cycle":
        peak = optimizer.param_groups[0]["lr"]
        return OneCycleLR(
            optimizer, peak, total_steps=epochs * steps, cycle_momentum=False, **settings
        )
    raise ValueError(name)
