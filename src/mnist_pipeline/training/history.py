"""The history of a run: one row per epoch."""

import math
from dataclasses import asdict, dataclass

from ..common.errors import UserError


class DivergedError(UserError):
    """Training has diverged: a loss is not finite."""

    def __init__(self, loss: float, where: str, lr: float) -> None:
        super().__init__(
            f"training has diverged: loss {loss} {where}, at a learning rate of {lr:g}; try a lower"
            " lr for this optimizer, or another schedule"
        )


def check_finite(loss: float, where: str, lr: float) -> None:
    """Raise DivergedError if a loss is not finite."""
    if not math.isfinite(loss):
        raise DivergedError(loss, where, lr)


@dataclass(frozen=True)
class Epoch:
    """One row of the history; training values are means over the epoch, measured while training."""

    epoch: int
    lr: float  # mean over the steps: that of a one-cycle's last step is nearly 0
    train_loss: float
    train_accuracy: float
    validation_loss: float | None  # None without a validation split
    validation_accuracy: float | None

    def metrics(self) -> dict[str, float]:
        """Everything but the learning rate and what was not measured."""
        row = asdict(self)
        del row["lr"]
        return {name: value for name, value in row.items() if value is not None}
