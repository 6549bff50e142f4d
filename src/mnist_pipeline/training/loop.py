"""The training loop."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..model.inference import predict
from ..model.losses import LOSSES
from ..runtime.arithmetic import parallelize, stream_seed
from ..runtime.distributed import (
    all_gather,
    all_reduce_mean,
    all_reduce_sum,
    is_local_rank_0,
    local_batch,
    rank,
    world_size,
)
from ..splits.batches import Batch, BatchSampler
from .augmentation import AUGMENTATIONS
from .checkpoints import Checkpoint, load_optimizer, optimizer_tensors
from .history import DivergedError, Epoch, Totals
from .optimizers import OPTIMIZERS
from .schedules import SCHEDULES
from .settings import TrainSettings


class Trainer:
    """Model, data, optimizer and schedule of a run, and the loop over its epochs."""

    def __init__(
        self,
        params: TrainSettings,
        model: nn.Module,
        train_loader: DataLoader[Batch],
        validation_loader: DataLoader[Batch] | None,
        device: torch.device,
    ) -> None:
        """Each loader yields this rank's part of the data."""
        self.params = params
        shape = train_loader.dataset[0][0].shape
        self.model = parallelize(model, device, shape)
        self.train_loader = train_loader
        self.validation_loader = validation_loader
        self.device = device
        self.loss = LOSSES[params.loss]
        self.augmentation = AUGMENTATIONS[params.augmentation](
            shape, **params.chosen("augmentation")
        )
        self.optimizer = OPTIMIZERS[params.optimizer](
            model.parameters(), **params.chosen("optimizer")
        )
        self.schedule = SCHEDULES[params.schedule](
            self.optimizer, params.epochs, len(train_loader), **params.chosen("schedule")
        )
        self.history: list[Epoch] = []
        self.best_weights: dict[str, Tensor] = {}

    def train(self, checkpoint: Checkpoint, after_epoch: Callable[[], None]) -> Epoch:
        """Train all epochs, resuming from `checkpoint`; return the epoch whose weights are kept.

        `after_epoch` is called after each epoch, and once after resuming. Raises DivergedError.
        """
        if self._resume(checkpoint):
            print(f"Resuming after epoch {len(self.history)} of {self.params.epochs}")
            after_epoch()
        start = time.perf_counter()
        remaining = range(len(self.history) + 1, self.params.epochs + 1)
        for epoch in remaining:
            self.history.append(self.train_epoch(epoch))
            if self.params.keep == "best" and self._kept_epoch() is self.history[-1]:
                self.best_weights = copy.deepcopy(self.model.state_dict())
            if is_local_rank_0():
                checkpoint.save(*self._state())
            after_epoch()
        seconds = time.perf_counter() - start
        print(f"Trained {len(remaining)} epoch{'s' * (len(remaining) != 1)} in {seconds:.1f} s")
        if self.best_weights:  # empty with keep: last
            self.model.load_state_dict(self.best_weights)
        return self._kept_epoch()

    def train_epoch(self, epoch: int) -> Epoch:
        """Train on every batch once, then measure on the validation split.

        Raises DivergedError: the loss of a step, or after the last one, is not finite.
        """
        sampler = self.train_loader.sampler
        assert isinstance(sampler, BatchSampler)
        sampler.set_epoch(epoch)
        dropout = f"dropout {rank()}" if rank() else "dropout"  # each rank has its own masks
        torch.manual_seed(stream_seed(self.params.seed, dropout, epoch))
        generator = torch.Generator(self.device).manual_seed(
            stream_seed(self.params.seed, "augmentation", epoch)
        )
        self.model.train()
        steps, totals = len(self.train_loader), Totals(epoch)
        title, length = f"Epoch [{epoch}/{self.params.epochs}]", sampler.length
        disable = None if is_local_rank_0() else True  # None: tqdm shows the bar only on a terminal
        with tqdm(total=length, desc=title, unit=" images", leave=False, disable=disable) as bar:
            for step, (images, labels) in enumerate(self.train_loader, start=1):
                images, labels = images.to(self.device), labels.to(self.device)
                global_size = min(sampler.batch_size, length - (step - 1) * sampler.batch_size)
                local, count = local_batch(global_size, rank(), world_size())
                # Noise for the global batch, so that it does not depend on the world size.
                noise = torch.rand(
                    (self.augmentation.noise_size, global_size),
                    generator=generator,
                    device=self.device,
                )
                logits = self.model(self.augmentation(images, noise[:, local]))  # [b, C]
                loss = self.loss.mean(logits, labels, self.params.label_smoothing)
                self.optimizer.zero_grad()
                # DistributedDataParallel averages gradients over ranks; with this weight the
                # average is the gradient of the mean loss of the global batch.
                loss.backward(torch.full_like(loss, count * world_size() / global_size))
                self.optimizer.step()
                lr = float(self.schedule.get_last_lr()[0])
                self.schedule.step()

                totals.add(loss.detach(), logits.detach()[:count], labels[:count], global_size, lr)
                bar.update(global_size)
                if step % self.params.log_every == 0 or step == steps:
                    batch_loss = totals.read()
                if step % self.params.log_every == 0:
                    bar.set_postfix(loss=f"{batch_loss:.4f}", refresh=False)
                    bar.write(f"{title}, Step [{step}/{steps}], Loss: {batch_loss:.4f}")

        all_reduce_mean(running_statistics(self.model))
        train_loss = totals.loss / totals.num_images
        train_accuracy = totals.num_correct / totals.num_images
        line = f"{title}: train loss {train_loss:.4f}, accuracy {train_accuracy:.2%}"
        # Without a validation split, the last batch again: no loss has seen the last step yet.
        measured = [(images, labels)] if self.validation_loader is None else self.validation_loader
        loss_after, accuracy_after = self._measure(measured)
        if not math.isfinite(loss_after):
            raise DivergedError(loss_after, f"after epoch {epoch}", lr)
        if self.validation_loader is None:
            print(line)
            return Epoch(epoch, totals.lr, train_loss, train_accuracy, None, None)
        print(f"{line}; validation loss {loss_after:.4f}, accuracy {accuracy_after:.2%}")
        return Epoch(epoch, totals.lr, train_loss, train_accuracy, loss_after, accuracy_after)

    def _measure(self, loader: DataLoader[Batch] | list[Batch]) -> tuple[float, float]:
        """Mean loss and accuracy over the shards of all ranks; a shard may be empty."""
        loss, num_correct, num_images = 0.0, 0, 0
        if len(loader):
            logits, labels = predict(self.model, loader, self.device)
            num_images = len(labels)
            loss = self.loss.mean(logits, labels).item() * num_images
            num_correct = int((logits.argmax(1) == labels).sum())
        totals = all_reduce_sum([loss, num_correct, num_images])
        return totals[0] / totals[2], totals[1] / totals[2]

    def _kept_epoch(self) -> Epoch:
        """The epoch whose weights are kept; with keep: best every epoch has a validation loss."""
        if self.params.keep == "last":
            return self.history[-1]
        return min(self.history, key=lambda epoch: epoch.validation_loss or 0.0)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next epoch depends on, except random state, which is reseeded."""
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
        """Restore the state in `checkpoint`; return whether there was one.

        If the hosts have different checkpoints, all ranks resume from the latest.
        """
        saved = checkpoint.load()
        epochs = all_gather(len(saved[1]["history"]) if saved else 0)
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


def running_statistics(model: nn.Module) -> Iterator[Tensor]:
    """Yield the buffers of batch normalization, which differ between ranks.

    The mean of equal buffers over seven ranks would be an ulp off.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            yield from module.buffers()
