"""The losses, each over the same interface: logits and labels in, the batch's mean out.

To add one: an entry in LOSSES, and its name in params.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss(NamedTuple):
    """A loss, and how the logits that it trains become probabilities."""

    mean: Callable[..., Tensor]
    """Logits float [B, C], labels int64 [B] and `label_smoothing` (default 0) → the batch's mean.

    Smoothing shares that part of each label among all classes (Szegedy et al., Rethinking the
    Inception Architecture for Computer Vision, CVPR 2016, section 7).
    """
    probabilities: Callable[[Tensor], Tensor]
    """Logits [B, C] → probabilities [B, C]; each row sums to 1."""


def targets(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Labels int64 [B] → float32 like `logits` [B, C]: 1 at the label and 0 elsewhere, smoothed."""
    num_classes = logits.shape[1]
    one_hot = (labels.unsqueeze(1) == torch.arange(num_classes, device=labels.device)).float()
    return one_hot * (1 - label_smoothing) + label_smoothing / num_classes


def softmax(logits: Tensor) -> Tensor:
    """Softmax over the classes."""
    return F.softmax(logits, dim=1)


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """CrossEntropyLoss on the logits."""
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def nll(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """NLLLoss on LogSoftmax; the same values as cross-entropy, in the tutorial's two steps."""
    log_probabilities = F.log_softmax(logits, dim=1)
    loss = F.nll_loss(log_probabilities, labels)
    return loss + label_smoothing * (-log_probabilities.mean() - loss) if label_smoothing else loss


def mse(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """MSELoss between the softmax and the one-hot labels (Brier, 1950, over the classes' mean)."""
    return F.mse_loss(softmax(logits), targets(logits, labels, label_smoothing))


def bce(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """BCELoss between a sigmoid for each class and the one-hot labels."""
    return F.binary_cross_entropy_with_logits(logits, targets(logits, labels, label_smoothing))


def normalized_sigmoid(logits: Tensor) -> Tensor:
    """A sigmoid for each class, divided by their sum."""
    return softmax(F.logsigmoid(logits))


LOSSES = {
    "cross_entropy": Loss(cross_entropy, softmax),
    "nll": Loss(nll, softmax),
    "mse": Loss(mse, softmax),
    "bce": Loss(bce, normalized_sigmoid),
}
