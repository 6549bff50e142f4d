"""The training loop, on one page."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, field
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from .augmentation import Augmentation, Unchanged
from .checkpoints import Checkpoint, load_optimizer, optimizer_tensors
from .data import Batch, BatchSampler
from .distributed import average, is_first_here, of_each, part_of_batch, rank, size, total
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


def mean_epoch(epochs: Sequence[Epoch]) -> Epoch:
    """The mean of each column; None where one is None."""
    if len(epochs) == 1:
        return epochs[0]
    columns = zip(*(astuple(epoch) for epoch in epochs), strict=True)
    return Epoch(*(None if None in column else mean(column) for column in columns))  # type: ignore[arg-type]


@dataclass
class Sums:
    """An epoch's loss and hits, summed over images and processes.

    They are read from the device, and from the other processes, once in many steps.
    """

    epoch: int
    loss: float = 0.0
    hits: int = 0
    images: int = 0
    steps: int = 0
    unread: list[tuple[Tensor, Tensor, Tensor, int]] = field(default_factory=list)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, whole: int) -> None:
        """Note a step without waiting for it: mean loss, logits [B, C] and labels [B] of the images
        that are this process's own, of a batch of `whole` images.
        """
        self.unread.append((loss, logits, labels, whole))

    def read(self, lr: float) -> float:
        """Sum what was noted since the last call; the last step's loss.

        Raises UserError: a loss isn't finite.
        """
        losses, logits, labels, batches = zip(*self.unread, strict=True)
        parts = [
            loss * len(own) / whole if len(own) < whole else loss
            for loss, own, whole in zip(torch.stack(losses).tolist(), labels, batches, strict=True)
        ]
        hits = int((torch.cat(logits).argmax(1) == torch.cat(labels)).sum())
        *values, hits_of_all = total([*parts, hits])
        for value, whole in zip(values, batches, strict=True):
            self.steps += 1
            if not math.isfinite(value):
                raise UserError(
                    f"the training has diverged: loss {value} in epoch {self.epoch}, step"
                    f" {self.steps}, at a learning rate of {lr:g}. Try a lower lr for this"
                    " optimizer, or another schedule"
                )
            self.loss += value * whole
            self.images += whole
        self.hits += int(hits_of_all)
        self.unread.clear()
        return values[-1]


@dataclass
class Trainer:
    """What one training needs; `train` runs it."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizer
    schedule: LRScheduler
    train_loader: DataLoader[Batch]  # its sampler is a BatchSampler, shared
    validation_loader: DataLoader[Batch] | None  # of this process's share
    device: torch.device
    epochs: int
    augmentation: Augmentation = field(default_factory=Unchanged)
    label_smoothing: float = 0.0
    seed: int = 0
    keep: str = "last"  # or "best": the epoch with the lowest validation loss
    log_every: int = 100
    history: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def train(self, checkpoint: Checkpoint, after_epoch: Callable[[], None]) -> Epoch:
        """Train on from `checkpoint`; the model is left as the kept epoch's, which is returned.

        `after_epoch` finds `history` one longer. Raises UserError: the loss isn't finite any more.
        """
        if self._resume(checkpoint):
            print(f"Resuming after epoch {len(self.history)} of {self.epochs}")
            after_epoch()
        start = time.perf_counter()
        todo = range(len(self.history) + 1, self.epochs + 1)
        for number in todo:
            self.history.append(self.train_epoch(number))
            if self.keep == "best" and self._kept() is self.history[-1]:
                self.best_weights = copy.deepcopy(self.model.state_dict())
            if is_first_here():
                checkpoint.save(*self._state())
            after_epoch()
        seconds = time.perf_counter() - start
        print(f"Trained {len(todo)} epochs in {seconds:.1f} s")
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        return self._kept()

    def train_epoch(self, number: int) -> Epoch:
        """Train on each batch once, then measure on the validation split."""
        sampler = self.train_loader.sampler
        assert isinstance(sampler, BatchSampler)
        sampler.set_epoch(number)
        dropout = f"dropout {rank()}" if rank() else "dropout"  # each process its own masks
        torch.manual_seed(stream_seed(self.seed, dropout, number))
        generator = torch.Generator(self.device).manual_seed(
            stream_seed(self.seed, "augmentation", number)
        )
        self.model.train()
        lr, steps, sums = 0.0, len(self.train_loader), Sums(number)
        title, length = f"Epoch [{number}/{self.epochs}]", sampler.length
        quiet = None if is_first_here() else True  # None: quiet unless on a terminal
        with tqdm(total=length, desc=title, unit=" images", leave=False, disable=quiet) as bar:
            for step, (images, labels) in enumerate(self.train_loader, start=1):
                images, labels = images.to(self.device), labels.to(self.device)
                whole = min(sampler.batch_size, length - (step - 1) * sampler.batch_size)
                part, own = part_of_batch(whole)
                # Drawn for the whole batch, so that an image's draws don't depend on who takes it.
                draws = torch.rand(
                    (self.augmentation.draws, whole), generator=generator, device=self.device
                )
                logits = self.model(self.augmentation(images, draws[:, part]))  # [B, C]
                loss = self.loss.mean(logits, labels, self.label_smoothing)
                self.optimizer.zero_grad()
                # DistributedDataParallel gives the mean of the gradients over the processes; with
                # this weight it is the gradient of the mean over the whole batch.
                loss.backward(torch.full_like(loss, own * size() / whole))
                self.optimizer.step()
                lr = float(self.schedule.get_last_lr()[0])
                self.schedule.step()

                sums.add(loss.detach(), logits.detach()[:own], labels[:own], whole)
                bar.update(whole)
                if step % self.log_every == 0 or step == steps:
                    batch_loss = sums.read(lr)
                if step % self.log_every == 0:
                    bar.set_postfix(loss=f"{batch_loss:.4f}", refresh=False)
                    bar.write(f"{title}, Step [{step}/{steps}], Loss: {batch_loss:.4f}")

        average(self.model.buffers())  # the running statistics of batch normalization
        train_loss, train_accuracy = sums.loss / sums.images, sums.hits / sums.images
        line = f"{title}: train loss {train_loss:.4f}, accuracy {train_accuracy:.2%}"
        validation_loss = validation_accuracy = None
        if self.validation_loader is not None:
            validation_loss, validation_accuracy = self._validate(self.validation_loader)
            line += f"; validation loss {validation_loss:.4f}, accuracy {validation_accuracy:.2%}"
        print(line)
        return Epoch(number, lr, train_loss, train_accuracy, validation_loss, validation_accuracy)

    def _validate(self, loader: DataLoader[Batch]) -> tuple[float, float]:
        """Mean loss and accuracy over the shares of all processes; a share may be empty."""
        loss, hits, images = 0.0, 0, 0
        if len(loader):
            logits, labels = predict(self.model, loader, self.device)
            images = len(labels)
            loss = self.loss.mean(logits, labels).item() * images
            hits = int((logits.argmax(1) == labels).sum())
        loss, hits_of_all, images_of_all = total([loss, hits, images])
        return loss / images_of_all, hits_of_all / images_of_all

    def _kept(self) -> Epoch:
        if self.keep == "last":
            return self.history[-1]
        return min(self.history, key=lambda epoch: epoch.validation_loss or 0.0)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next epoch depends on; its random numbers follow from its number alone."""
        parts = {
            "model": self.model.state_dict(),
            "best": self.best_weights,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        tensors = {f"{part}/{key}": value for part in parts for key, value in parts[part].items()}
        return tensors, {
            "history": [asdict(epoch) for epoch in self.history],
            "param_groups": self.optimizer.state_dict()["param_groups"],
            "schedule": self.schedule.state_dict(),
        }

    def _resume(self, checkpoint: Checkpoint) -> bool:
        """Take up the state in `checkpoint`, if there is one of this training.

        Another host's may be further on, or this host be new: all take up the furthest.
        """
        saved = checkpoint.load()
        epochs = of_each(len(saved[1]["history"]) if saved else 0)
        if min(epochs) < max(epochs):
            checkpoint.copy_from(epochs.index(max(epochs)))
            saved = checkpoint.load()
        if saved is None:
            return False
        tensors, values = saved
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, key = name.split("/", 1)
            parts[part][key] = tensor
        self.model.load_state_dict(parts["model"])
        self.best_weights = parts["best"]
        load_optimizer(self.optimizer, parts["optimizer"], values["param_groups"])
        self.schedule.load_state_dict(values["schedule"])
        self.history[:] = [Epoch(**row) for row in values["history"]]
        return True
