"""Inference: logits of a whole split, and a classifier that returns probabilities."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..splits.batches import Batch, BatchLoader, ImageDataset, make_loader
from .losses import Loss

BATCH_SIZE = 500
"""Large enough to be fast, small enough to need little memory."""


def inference_loader(dataset: ImageDataset) -> BatchLoader:
    """A loader of `dataset` in its own order."""
    return make_loader(dataset, BATCH_SIZE)


@torch.no_grad()
def predict_logits(
    model: nn.Module, loader: Iterable[Batch], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Logits float32 [N, C] and labels int64 [N] of every batch of `loader`, on the CPU."""
    model.eval()
    pairs = [(model(images.to(device)).cpu(), labels.cpu()) for images, labels in loader]
    logits, labels = zip(*pairs, strict=True)
    return torch.cat(logits), torch.cat(labels)


class Classifier(nn.Module):
    """A model and its loss as one module: images uint8 [B, *shape] → probabilities [B, classes]."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities float32; each row sums to 1."""
        return self.loss.probabilities(self.model(images))
