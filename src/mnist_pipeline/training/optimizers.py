"""Optimizers and learning-rate schedules: torch's own, by the names in params.yaml.

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

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
}


FUSED = {"sgd", "adam", "adamw"}
"""Optimizers that torch can step in one pass over the parameters."""


def build_optimizer(
    name: str, settings: Mapping[str, Any], parameters: Iterable[nn.Parameter]
) -> optim.Optimizer:
    """Build an optimizer; `settings` are the arguments of its class."""
    if name in FUSED:
        settings = {**settings, "fused": True}
    return without_compiler(OPTIMIZERS[name])(parameters, **settings)


def without_compiler(optimizer: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """The same optimizer without the wrappers that import torch's compiler.

    torch wraps these methods to exclude them from torch.compile, which is not used here, and
    imports the compiler to do so. Measured: 1 s and 100 MiB per run. Returns `optimizer` itself if
    another version of torch wraps its methods differently, which a step of it tells. Not to be
    called while modules are imported: torch chooses its instructions when it first computes.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    methods["step"] = torch.no_grad()(methods["step"])
    plain: type[optim.Optimizer] = type(optimizer.__name__, (optimizer,), methods)
    try:
        weight = nn.Parameter(torch.ones(1))
        weight.grad = torch.ones(1)
        plain([weight], lr=0.1).step()  # type: ignore[call-arg]
    except Exception:
        return optimizer
    return plain if weight < 1 else optimizer


def build_schedule(
    name: str, settings: Mapping[str, Any], optimizer: optim.Optimizer, epochs: int, steps: int
) -> LRScheduler:
    """Build a schedule that is stepped after each of the `steps` batches of an epoch."""
    if name == "constant":
        return ConstantLR(optimizer, factor=1.0)
    if name == "step":
        return StepLR(optimizer, settings["step_size"] * steps, settings["gamma"])
    if name == "cosine":
        return CosineAnnealingLR(optimizer, epochs * steps, **settings)
    if name == "one_cycle":
        peak, total_steps = optimizer.param_groups[0]["lr"], epochs * steps
        if settings["pct_start"] * total_steps <= 1:
            # The rise would end with the first step, where OneCycleLR divides by zero or misses
            # the peak: only the fall from the peak is left.
            end = peak / settings["div_factor"] / settings["final_div_factor"]
            return CosineAnnealingLR(optimizer, max(total_steps - 1, 1), end)
        return OneCycleLR(
            optimizer, peak, total_steps=total_steps, cycle_momentum=False, **settings
        )
    raise ValueError(name)
