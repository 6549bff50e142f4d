"""Learning-rate schedules: torch's own, stepped after every batch.

To add one: a function here, with its settings as keyword-only parameters, its entry in SCHEDULES,
and its block in params.yaml. `steps` is the number of batches per epoch.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    StepLR,
)

from ..common.settings import ConflictError, Count, NotNegative


def constant(optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
    """The optimizer's `lr` throughout."""
    return ConstantLR(optimizer, factor=1.0)


def step(
    optimizer: Optimizer,
    epochs: int,
    steps: int,
    *,
    step_size: Count,
    gamma: Annotated[float, Field(gt=0, le=1)],
) -> LRScheduler:
    """Learning rate multiplied by `gamma` every `step_size` epochs."""
    return StepLR(optimizer, step_size * steps, gamma)


def cosine(optimizer: Optimizer, epochs: int, steps: int, *, eta_min: NotNegative) -> LRScheduler:
    """Cosine annealing from the optimizer's `lr` to `eta_min`.

    Raises ConflictError: `eta_min` is above `lr`.
    """
    lr = optimizer.param_groups[0]["lr"]
    if eta_min > lr:
        raise ConflictError(
            f"schedules.cosine: eta_min: found {eta_min:g}, expected at most the optimizer's lr,"
            f" which is {lr:g}"
        )
    return CosineAnnealingLR(optimizer, epochs * steps, eta_min)


def one_cycle(
    optimizer: Optimizer,
    epochs: int,
    steps: int,
    *,
    pct_start: Annotated[float, Field(gt=0, lt=1)],
    div_factor: Annotated[float, Field(ge=1)],
    final_div_factor: Annotated[float, Field(ge=1)],
) -> LRScheduler:
    """One-cycle policy; the optimizer's `lr` is the peak."""
    peak = optimizer.param_groups[0]["lr"]
    total_steps = epochs * steps
    if pct_start * total_steps <= 1:
        # The rise would end with the first step, where OneCycleLR divides by zero or misses the
        # peak: only the fall from the peak is left.
        end = peak / div_factor / final_div_factor
        return CosineAnnealingLR(optimizer, max(total_steps - 1, 1), end)
    return OneCycleLR(
        optimizer,
        peak,
        total_steps,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum=False,
    )


SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "one_cycle": one_cycle,
}
