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

    mean: Callable[[Tensor, Tensor], Tensor]
    """Logits float [B, C] and labels int64 [B] → the mean over the batch, a scalar."""
    probabilities: Callable[[Tensor], Tensor]
    """Logits [B, C] → probabilities [B, C]; each row sums to 1."""


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Labels int64 [B] → float32 [B, num_classes], 1 at the label and 0 elsewhere."""
    return (labels.unsqueeze(1) == torch.arange(num_classes, device=labels.device)).float()


def softmax(logits: Tensor) -> Tensor:
    """Softmax over the classes."""
    return F.softmax(logits, dim=1)


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """NLLLoss on LogSoftmax; the same values as cross-entropy, in the tutorial's two steps."""
    return F.nll_loss(F.log_softmax(logits, dim=1), labels)


def mse(logits: Tensor, labels: Tensor) -> Tensor:
    """MSELoss between the softmax and the one-hot labels (Brier, 1950, over the classes' mean)."""
    return F.mse_loss(softmax(logits), one_hot(labels, logits.shape[1]))


def bce(logits: Tensor, labels: Tensor) -> Tensor:
    """BCELoss between a sigmoid for each class and the one-hot labels."""
    return F.binary_cross_entropy_with_logits(logits, one_hot(labels, logits.shape[1]))


def normalized_sigmoid(logits: Tensor) -> Tensor:
    """A sigmoid for each class, divided by their sum."""
    return softmax(F.logsigmoid(logits))


LOSSES = {
    "cross_entropy": Loss(F.cross_entropy, softmax),
    "nll": Loss(nll, softmax),
    "mse": Loss(mse, softmax),
    "bce": Loss(bce, normalized_sigmoid),
}
