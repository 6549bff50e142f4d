"""The losses behind one interface: logits and labels in, the mean over the batch out.

To add one: an entry in LOSSES.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss(NamedTuple):
    """A loss, and the matching conversion of logits to probabilities."""

    mean: Callable[..., Tensor]
    """(logits float [B, C], labels int64 [B], label_smoothing=0.0) → mean over the batch.

    Label smoothing spreads this fraction of each label over all classes. Source: Szegedy et al.,
    Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7.
    """
    probabilities: Callable[[Tensor], Tensor]
    """Logits [B, C] → probabilities [B, C]; each row sums to 1."""


def targets(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """One-hot labels, smoothed: labels int64 [B] → float32 [B, C], with C as in `logits`."""
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
    """NLLLoss on LogSoftmax: equals cross-entropy, computed in the tutorial's two steps."""
    log_probabilities = F.log_softmax(logits, dim=1)
    loss = F.nll_loss(log_probabilities, labels)
    return loss + label_smoothing * (-log_probabilities.mean() - loss) if label_smoothing else loss


def mse(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """MSELoss between softmax and one-hot labels: the Brier score (1950), averaged over classes."""
    return F.mse_loss(softmax(logits), targets(logits, labels, label_smoothing))


def bce(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """BCELoss between the sigmoid of each logit and the one-hot labels."""
    return F.binary_cross_entropy_with_logits(logits, targets(logits, labels, label_smoothing))


def normalized_sigmoid(logits: Tensor) -> Tensor:
    """Sigmoid of each logit, normalized to sum 1 over the classes."""
    return softmax(F.logsigmoid(logits))


LOSSES = {
    "cross_entropy": Loss(cross_entropy, softmax),
    "nll": Loss(nll, softmax),
    "mse": Loss(mse, softmax),
    "bce": Loss(bce, normalized_sigmoid),
}
