"""The history of a run: one row per epoch, and the running totals that it is computed from."""

import math
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from ..common.errors import UserError
from ..runtime.distributed import all_reduce_sum


class DivergedError(UserError):
    """Training has diverged: a loss is not finite."""

    def __init__(self, loss: float, where: str, lr: float) -> None:
        super().__init__(
            f"training has diverged: loss {loss} {where}, at a learning rate of {lr:g}; try a lower"
            " lr for this optimizer, or another schedule"
        )


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


@dataclass
class Totals:
    """Loss and number of correct predictions of an epoch, summed over images and ranks; mean lr.

    Steps are noted without waiting for the device, and read from it once in many steps.
    """

    epoch: int
    lr: float = 0.0
    loss: float = 0.0
    num_correct: int = 0
    num_images: int = 0
    num_steps: int = 0
    unread: list[tuple[Tensor, Tensor, Tensor, int, float]] = field(default_factory=list)

    def add(
        self, loss: Tensor, logits: Tensor, labels: Tensor, global_size: int, lr: float
    ) -> None:
        """Note a step: mean loss [], logits [b, C] and labels [b] of this rank's images."""
        self.unread.append((loss, logits, labels, global_size, lr))

    def read(self) -> float:
        """Sum the steps noted since the last call; return the loss of the last global batch.

        Raises DivergedError: a loss is not finite.
        """
        losses, logits, labels, global_sizes, rates = zip(*self.unread, strict=True)
        # The mean loss of a global batch is the sum over ranks of mean · b / B.
        local_losses = [
            loss * len(local) / size if len(local) < size else loss
            for loss, local, size in zip(
                torch.stack(losses).tolist(), labels, global_sizes, strict=True
            )
        ]
        num_correct = int((torch.cat(logits).argmax(1) == torch.cat(labels)).sum())
        *global_losses, num_correct_of_all = all_reduce_sum([*local_losses, num_correct])
        for loss, size, lr in zip(global_losses, global_sizes, rates, strict=True):
            self.num_steps += 1
            self.lr += (lr - self.lr) / self.num_steps  # unlike a sum, exact for a constant rate
            if not math.isfinite(loss):
                raise DivergedError(loss, f"in epoch {self.epoch}, step {self.num_steps}", lr)
            self.loss += loss * size
            self.num_images += size
        self.num_correct += int(num_correct_of_all)
        self.unread.clear()
        return global_losses[-1]
