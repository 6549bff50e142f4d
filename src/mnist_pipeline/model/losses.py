"""The losses: criterion(logits, labels) is the mean over the batch.

To add one: a class here and its entry in LOSSES.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Loss(nn.Module):
    """A loss, and the matching conversion of logits to probabilities.

    In training mode, label smoothing spreads a fraction of each label over all classes. Source:
    Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self._label_smoothing = label_smoothing

    @property
    def label_smoothing(self) -> float:
        """Fraction of each label that is spread over all classes; none in evaluation mode."""
        return self._label_smoothing if self.training else 0.0

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """One-hot labels, smoothed: labels int64 [B] → float32 [B, num_classes]."""
        one_hot = (labels.unsqueeze(1) == torch.arange(num_classes, device=labels.device)).float()
        return one_hot * (1 - self.label_smoothing) + self.label_smoothing / num_classes

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits [B, C] → probabilities [B, C]; each row sums to 1."""
        return F.softmax(logits, dim=1)


class CrossEntropy(Loss):
    """CrossEntropyLoss on the logits."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits float [B, C], labels int64 [B] → mean loss []."""
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


class Nll(Loss):
    """NLLLoss on LogSoftmax: equals cross-entropy, computed in the tutorial's two steps."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits float [B, C], labels int64 [B] → mean loss []."""
        log_probabilities = F.log_softmax(logits, dim=1)
        loss = F.nll_loss(log_probabilities, labels)
        if self.label_smoothing:
            loss = loss + self.label_smoothing * (-log_probabilities.mean() - loss)
        return loss


class Mse(Loss):
    """MSELoss between softmax and one-hot labels: the Brier score (1950), averaged over classes."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits float [B, C], labels int64 [B] → mean loss []."""
        return F.mse_loss(self.probabilities(logits), self.targets(labels, logits.shape[1]))


class Bce(Loss):
    """BCELoss between the sigmoid of each logit and the one-hot labels."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits float [B, C], labels int64 [B] → mean loss []."""
        targets = self.targets(labels, logits.shape[1])
        return F.binary_cross_entropy_with_logits(logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid of each logit, normalized to sum 1 over the classes."""
        return F.softmax(F.logsigmoid(logits), dim=1)


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "nll": Nll,
    "mse": Mse,
    "bce": Bce,
}
