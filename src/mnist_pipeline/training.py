"""The training loop, on one page."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from .data import Batch, BatchSampler
from .errors import UserError
from .inference import predict
from .losses import Loss
from .runtime import stream_seed


@dataclass(frozen=True)
class Epoch:
    """One row of the history: means over the epoch's images, while they were trained on."""

    epoch: int
    lr: float  # of the epoch's last step
    train_loss: float
    train_accuracy: float
    validation_loss: float | None  # None without a validation split
    validation_accuracy: float | None

    def metrics(self) -> dict[str, float]:
        """What was measured, and in which epoch."""
        row = asdict(self)
        del row["lr"]
        return {name: value for name, value in row.items() if value is not None}


@dataclass
class Trainer:
    """What one training needs; `train` runs it."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizer
    schedule: LRScheduler
    train_loader: DataLoader[Batch]  # its sampler is a BatchSampler
    validation_loader: DataLoader[Batch] | None
    device: torch.device
    epochs: int
    seed: int = 0
    log_every: int = 100

    def train(self, keep: str, after_epoch: Callable[[Sequence[Epoch]], None]) -> Epoch:
        """Train; the model is left as the epoch that `keep` asks for ("last" or "best") left it.

        `after_epoch` is given the history so far. Returns the kept epoch. Raises UserError: the
        loss isn't finite any more.
        """
        history: list[Epoch] = []
        best, best_weights = None, None
        for number in range(1, self.epochs + 1):
            epoch = self.train_epoch(number)
            history.append(epoch)
            after_epoch(history)
            if keep == "best" and (best is None or _loss(epoch) < _loss(best)):
                best, best_weights = epoch, copy.deepcopy(self.model.state_dict())
        if best is None or best_weights is None:
            return history[-1]
        self.model.load_state_dict(best_weights)
        return best

    def train_epoch(self, number: int) -> Epoch:
        """Train on each batch once, then measure on the validation split."""
        assert isinstance(self.train_loader.sampler, BatchSampler)
        self.train_loader.sampler.set_epoch(number)
        torch.manual_seed(stream_seed(self.seed, "dropout", number))
        self.model.train()
        lr, seen, steps = 0.0, 0, len(self.train_loader)
        losses: list[Tensor] = []  # stay on the device: reading one would wait for it
        hits: list[Tensor] = []
        sizes: list[int] = []
        title = f"Epoch [{number}/{self.epochs}]"
        with tqdm(total=steps, desc=title, unit="batch", leave=False, disable=None) as bar:
            for step, (images, labels) in enumerate(self.train_loader, start=1):
                images, labels = images.to(self.device), labels.to(self.device)
                logits = self.model(images)  # [B, C]
                loss = self.loss.mean(logits, labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                lr = float(self.schedule.get_last_lr()[0])
                self.schedule.step()

                losses.append(loss.detach())
                hits.append((logits.argmax(1) == labels).sum())
                sizes.append(len(labels))
                bar.update()
                if step % self.log_every == 0 or step == steps:
                    self._check(losses[seen:], number, seen, lr)
                    seen = step
                if step % self.log_every == 0:
                    bar.write(f"{title}, Step [{step}/{steps}], Loss: {loss.item():.4f}")

        weights = torch.tensor(sizes, dtype=torch.float64)
        train_loss = (torch.stack(losses).cpu().double() @ weights / weights.sum()).item()
        train_accuracy = torch.stack(hits).sum().item() / sum(sizes)
        line = f"{title}: train loss {train_loss:.4f}, accuracy {train_accuracy:.2%}"
        validation_loss = validation_accuracy = None
        if self.validation_loader is not None:
            logits, labels = predict(self.model, self.validation_loader, self.device)
            validation_loss = self.loss.mean(logits, labels).item()
            validation_accuracy = (logits.argmax(1) == labels).double().mean().item()
            line += f"; validation loss {validation_loss:.4f}, accuracy {validation_accuracy:.2%}"
        print(line)
        return Epoch(number, lr, train_loss, train_accuracy, validation_loss, validation_accuracy)

    def _check(self, losses: Sequence[Tensor], epoch: int, before: int, lr: float) -> None:
        """Raise UserError if one of the losses since the step `before` isn't finite."""
        wrong = torch.stack(list(losses)).isfinite().logical_not().nonzero()
        if len(wrong):
            step = before + int(wrong[0].item()) + 1
            value = losses[step - before - 1].item()
            raise UserError(
                f"the training has diverged: loss {value} in epoch {epoch}, step {step}, at a"
                f" learning rate of {lr:g}. Try a lower lr for this optimizer, or another schedule"
            )


def _loss(epoch: Epoch) -> float:
    return float("inf") if epoch.validation_loss is None else epoch.validation_loss
