"""The progress of an epoch: a bar, a line every so many steps, and its running totals."""

import torch
from torch import Tensor
from tqdm import tqdm

from ..runtime.distributed import LocalBatch, all_reduce_sum, is_local_rank_0
from .history import check_finite


class Progress:
    """Loss and number of correct predictions, summed over images and ranks; mean learning rate.

    Steps are noted without waiting for the device, and read from it once in `log_every` steps.
    """

    def __init__(
        self, epoch: int, epochs: int, steps: int, num_images: int, log_every: int
    ) -> None:
        """`steps` and `num_images` are those of this epoch."""
        self.epoch = epoch
        self.title = f"Epoch [{epoch}/{epochs}]"
        self.steps = steps
        self.log_every = log_every
        self.step = 0
        self.lr = 0.0
        self.loss = 0.0
        self.num_correct = 0
        self.num_images = 0
        self.unread: list[tuple[Tensor, Tensor, Tensor, LocalBatch, float]] = []
        disable = None if is_local_rank_0() else True  # None: only on a terminal
        self.bar = tqdm(
            total=num_images, desc=self.title, unit=" images", leave=False, disable=disable
        )

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()

    def add(
        self, loss: Tensor, logits: Tensor, labels: Tensor, batch: LocalBatch, lr: float
    ) -> None:
        """Note a step: mean loss [], logits [b, C] and labels [b] of this rank's images.

        Raises DivergedError: a loss is not finite.
        """
        self.step += 1
        self.unread.append((loss.detach(), logits.detach(), labels, batch, lr))
        self.bar.update(batch.global_size)
        if self.step % self.log_every == 0 or self.step == self.steps:
            batch_loss = self._read()
        if self.step % self.log_every == 0:
            self.bar.set_postfix(loss=f"{batch_loss:.4f}", refresh=False)
            line = f"{self.title}, Step [{self.step}/{self.steps}], Loss: {batch_loss:.4f}"
            self.bar.write(line)

    def _read(self) -> float:
        """Sum the steps noted since the last call; return the loss of the last global batch."""
        losses, logits, labels, batches, rates = zip(*self.unread, strict=True)
        local_losses = [
            loss * batch.fraction
            for loss, batch in zip(torch.stack(losses).tolist(), batches, strict=True)
        ]
        counted = [batch.count for batch in batches]
        predicted = torch.cat([each[:n] for each, n in zip(logits, counted, strict=True)]).argmax(1)
        actual = torch.cat([each[:n] for each, n in zip(labels, counted, strict=True)])
        num_correct = int((predicted == actual).sum())
        *losses_of_all, num_correct_of_all = all_reduce_sum([*local_losses, num_correct])
        first = self.step - len(batches) + 1
        for step, (loss, batch, lr) in enumerate(
            zip(losses_of_all, batches, rates, strict=True), first
        ):
            check_finite(loss, f"in epoch {self.epoch}, step {step}", lr)
            self.lr += (lr - self.lr) / step  # unlike a sum, exact for a constant rate
            self.loss += loss * batch.global_size
            self.num_images += batch.global_size
        self.num_correct += int(num_correct_of_all)
        self.unread.clear()
        return losses_of_all[-1]
