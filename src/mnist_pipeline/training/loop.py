"""The training loop."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..model.inference import predict_logits
from ..model.losses import Loss
from ..runtime.distributed import (
    LocalBatch,
    all_reduce_mean,
    all_reduce_sum,
    is_local_rank_0,
    rank,
    world_size,
)
from ..runtime.streams import stream_seed
from ..splits.batches import Batch, BatchLoader
from .augmentation import Augmentation
from .checkpoints import Checkpoint
from .history import Epoch, check_finite
from .progress import Progress
from .settings import TrainSettings


@dataclass(eq=False)
class Trainer:
    """A run: what is trained, on what, and how. Each loader yields this rank's shard."""

    settings: TrainSettings  # epochs, keep, seed, log_every
    model: nn.Module
    criterion: Loss
    optimizer: Optimizer
    schedule: LRScheduler
    augmentation: Augmentation
    train_loader: BatchLoader
    validation_loader: BatchLoader | None
    device: torch.device
    history: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def train(self, checkpoint: Checkpoint, after_epoch: Callable[[], None]) -> Epoch:
        """Train all epochs, resuming from `checkpoint`; return the epoch whose weights are kept.

        `after_epoch` is called after each epoch, and once after resuming. Raises DivergedError.
        """
        if checkpoint.resume(self):
            print(f"Resuming after epoch {len(self.history)} of {self.settings.epochs}")
            after_epoch()
        start = time.perf_counter()
        remaining = range(len(self.history) + 1, self.settings.epochs + 1)
        for epoch in remaining:
            self.history.append(self.train_epoch(epoch))
            if self.settings.keep == "best" and self.selected_epoch() is self.history[-1]:
                self.best_weights = copy.deepcopy(self.model.state_dict())
            if is_local_rank_0():
                checkpoint.save(self)
            after_epoch()
        seconds = time.perf_counter() - start
        print(f"Trained {len(remaining)} epoch{'s' * (len(remaining) != 1)} in {seconds:.1f} s")
        if self.best_weights:  # empty with keep: last
            self.model.load_state_dict(self.best_weights)
        return self.selected_epoch()

    def train_epoch(self, epoch: int) -> Epoch:
        """Train on every batch once, then measure on the validation split.

        Raises DivergedError: the loss of a step, or after the last one, is not finite.
        """
        sampler = self.train_loader.sampler
        steps, num_images = len(sampler), sampler.length
        progress = Progress(epoch, self.settings.epochs, steps, num_images, self.settings.log_every)
        with closing(progress):
            last_batch = self.train_on_batches(epoch, progress)
        all_reduce_mean(running_statistics(self.model))
        train_loss = progress.loss / progress.num_images
        train_accuracy = progress.num_correct / progress.num_images
        line = f"{progress.title}: train loss {train_loss:.4f}, accuracy {train_accuracy:.2%}"
        if self.validation_loader is None:
            # Measure the last batch again, to catch divergence in the final step.
            check_finite(self.measure([last_batch])[0], f"after epoch {epoch}", progress.lr)
            print(line)
            return Epoch(epoch, progress.lr, train_loss, train_accuracy, None, None)
        loss, accuracy = self.measure(self.validation_loader)
        check_finite(loss, f"after epoch {epoch}", progress.lr)
        print(f"{line}; validation loss {loss:.4f}, accuracy {accuracy:.2%}")
        return Epoch(epoch, progress.lr, train_loss, train_accuracy, loss, accuracy)

    def train_on_batches(self, epoch: int, progress: Progress) -> Batch:
        """Train on every batch once; return the last one."""
        self.model.train()
        self.criterion.train()
        for images, labels, local in self.batches(epoch):
            logits = self.model(images)  # [B, classes]
            loss = self.criterion(logits, labels)  # []
            self.optimizer.zero_grad()
            loss.backward(local.weight(loss))
            self.optimizer.step()
            progress.add(loss, logits, labels, local, self.learning_rate)
            self.schedule.step()
        return images, labels

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, LocalBatch]]:
        """Yield this rank's local batches, augmented and on the device.

        Images [B, C, H, W], labels int64 [B], and their place in the global batch.
        """
        self.train_loader.sampler.set_epoch(epoch)
        noise = self.noise(epoch)
        sizes = self.train_loader.sampler.sizes()
        for (images, labels), global_size in zip(self.train_loader, sizes, strict=True):
            local = LocalBatch.of(global_size, rank(), world_size())
            noise_of_batch = noise(global_size)[:, local.images]
            images = self.augmentation(images.to(self.device), noise_of_batch)
            yield images, labels.to(self.device), local

    def noise(self, epoch: int) -> Callable[[int], Tensor]:
        """Seed the random streams of an epoch; return the source of the augmentation's noise.

        Noise is sampled for the global batch, so that it does not depend on the world size.
        """
        seed = self.settings.seed
        dropout = f"dropout {rank()}" if rank() else "dropout"  # each rank has its own masks
        torch.manual_seed(stream_seed(seed, dropout, epoch))
        generator = torch.Generator(self.device)
        generator.manual_seed(stream_seed(seed, "augmentation", epoch))
        size = self.augmentation.noise_size
        return lambda n: torch.rand((size, n), generator=generator, device=self.device)

    def measure(self, loader: BatchLoader | list[Batch]) -> tuple[float, float]:
        """Mean loss and accuracy over the shards of all ranks; a shard may be empty."""
        self.criterion.eval()
        totals = [0.0, 0.0, 0.0]  # loss, correct predictions, images
        if len(loader):
            logits, labels = predict_logits(self.model, loader, self.device)
            correct = (logits.argmax(1) == labels).sum().item()
            mean_loss = self.criterion(logits, labels).item()
            totals = [mean_loss * len(labels), correct, len(labels)]
        loss, num_correct, num_images = all_reduce_sum(totals)
        return loss / num_images, num_correct / num_images

    def selected_epoch(self) -> Epoch:
        """The epoch whose weights are kept; with keep: best every epoch has a validation loss."""
        if self.settings.keep == "last":
            return self.history[-1]
        return min(self.history, key=lambda epoch: epoch.validation_loss or 0.0)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])


def running_statistics(model: nn.Module) -> Iterator[Tensor]:
    """Yield the buffers of batch normalization, which differ between ranks.

    The mean of equal buffers over seven ranks would be an ulp off.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            yield from module.buffers()
