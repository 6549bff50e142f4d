"""The losses against torch's own modules, as the tutorial names them."""

import pytest
import torch
from torch import nn

from mnist_pipeline.model.losses import LOSSES

LOGITS = torch.randn(7, 10, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.arange(7)


def test_each_loss_equals_its_torch_module() -> None:
    targets = nn.functional.one_hot(LABELS, 10).float()
    expected = {
        "cross_entropy": nn.CrossEntropyLoss()(LOGITS, LABELS),
        "nll": nn.NLLLoss()(nn.LogSoftmax(dim=1)(LOGITS), LABELS),
        "mse": nn.MSELoss()(nn.Softmax(dim=1)(LOGITS), targets),
        "bce": nn.BCELoss()(torch.sigmoid(LOGITS), targets),
    }
    for name, loss in LOSSES.items():
        torch.testing.assert_close(loss()(LOGITS, LABELS), expected[name])


def test_label_smoothing_is_torchs_and_mixes_the_targets() -> None:
    smooth = nn.functional.one_hot(LABELS, 10).float() * 0.8 + 0.02
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=0.2)(LOGITS, LABELS)
    expected = {
        "cross_entropy": cross_entropy,
        "nll": cross_entropy,
        "mse": nn.MSELoss()(nn.Softmax(dim=1)(LOGITS), smooth),
        "bce": nn.BCELoss()(torch.sigmoid(LOGITS), smooth),
    }
    for name, loss in LOSSES.items():
        torch.testing.assert_close(loss(0.2)(LOGITS, LABELS), expected[name])


@pytest.mark.parametrize("name", LOSSES)
def test_probabilities_sum_to_one_and_agree_with_the_logits(name: str) -> None:
    probabilities = LOSSES[name]().probabilities(LOGITS)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(7))
    assert torch.equal(probabilities.argmax(1), LOGITS.argmax(1))


def test_the_probabilities_of_bce_are_its_sigmoids_over_their_sum() -> None:
    sigmoids = torch.sigmoid(LOGITS)
    torch.testing.assert_close(
        LOSSES["bce"]().probabilities(LOGITS), sigmoids / sigmoids.sum(1, keepdim=True)
    )
    hopeless = LOSSES["bce"]().probabilities(torch.full((1, 10), -200.0))
    torch.testing.assert_close(hopeless, torch.full((1, 10), 0.1))


@pytest.mark.parametrize("name", LOSSES)
def test_labels_are_smoothed_in_training_mode_alone(name: str) -> None:
    exact, smoothed = LOSSES[name](), LOSSES[name](0.2)
    assert not torch.equal(smoothed(LOGITS, LABELS), exact(LOGITS, LABELS))
    assert torch.equal(smoothed.eval()(LOGITS, LABELS), exact(LOGITS, LABELS))
