"""Metrics and tables from probabilities float [N, C] and labels int [N].

Confidence is the probability of the predicted class.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..common.errors import UserError


def summary(probabilities: np.ndarray, labels: np.ndarray, loss: float) -> dict[str, float | int]:
    """Accuracy, number of errors, loss, macro F1, expected calibration error.

    Macro F1 is the mean over the classes that have images.
    Raises UserError: a probability is not finite, which every metric would take for a prediction.
    """
    unusable = len(labels) - int(np.isfinite(probabilities).all(1).sum())
    if unusable:
        raise UserError(
            f"model: found probabilities that are not finite for {unusable} of {len(labels)}"
            " images: its training has diverged; train again with a lower lr"
        )
    predicted = probabilities.argmax(1)
    errors = int((predicted != labels).sum())
    table = class_table(probabilities, labels, range(probabilities.shape[1]))
    return {
        "accuracy": 1 - errors / len(labels),
        "errors": errors,
        "loss": loss,
        "macro_f1": float(table["f1"].mean()),
        "expected_calibration_error": expected_calibration_error(probabilities, labels),
    }


def reliability_table(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> pd.DataFrame:
    """One row per non-empty confidence bin: mean confidence, accuracy, number of images.

    The column `perfect` is the accuracy of a perfectly calibrated model, the diagonal of the
    reliability diagram.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 1 and 2.
    """
    confidence = probabilities.max(1).astype(np.float64)
    bin_index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    correct = probabilities.argmax(1) == labels
    groups = pd.DataFrame({"confidence": confidence, "accuracy": correct}).groupby(bin_index)
    table = groups.mean()
    table.insert(0, "bin", [f"{b / bins:.2f}–{(b + 1) / bins:.2f}" for b in table.index])
    return table.assign(perfect=table["confidence"], images=groups.size())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by their images.

    0 is best, 1 is worst. Source: the same paper, equation 3.
    """
    table = reliability_table(probabilities, labels)
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["images"]
    return float(gaps.sum() / len(labels))


def class_table(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str | int]
) -> pd.DataFrame:
    """One row per class: precision, recall, F1, support (number of images).

    The first three are NaN for a class without images.
    """
    predicted = probabilities.argmax(1)
    num_correct, num_predicted, support = (
        np.bincount(indices, minlength=len(classes))
        for indices in (labels[predicted == labels], predicted, labels)
    )
    one = np.where(support > 0, 1, np.nan)
    return pd.DataFrame(
        {
            "class": classes,
            "precision": num_correct / np.maximum(num_predicted, one),
            "recall": num_correct / np.maximum(support, one),
            "f1": 2 * num_correct / np.maximum(num_predicted + support, one),
            "support": support,
        }
    )


def prediction_table(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """One row per image: index, actual and predicted class, confidence."""
    names = np.array(classes, dtype=object)  # a fixed-width dtype would drop trailing NULs
    return pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "actual": names[labels],
            "predicted": names[probabilities.argmax(1)],
            "confidence": probabilities.max(1).astype(np.float64),
        }
    )
