"""Probabilities and labels of the test split → metrics and tables."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def summary(probabilities: np.ndarray, labels: np.ndarray, loss: float) -> dict[str, float | int]:
    """The numbers worth comparing, from probabilities [N, C] and labels [N].

    macro_f1 is the mean of the F1 of the classes that occur, in the labels or as an answer; for
    the last see `expected_calibration_error`.
    """
    predicted = probabilities.argmax(1)
    errors = int((predicted != labels).sum())
    f1 = class_table(predicted, labels, range(probabilities.shape[1]))["f1"]
    return {
        "accuracy": 1 - errors / len(labels),
        "errors": errors,
        "loss": loss,
        "macro_f1": float(f1[np.union1d(predicted, labels)].mean()),
        "expected_calibration_error": expected_calibration_error(
            probabilities.max(1), predicted == labels
        ),
    }


def reliability_table(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """A row a bin of confidence that has images: mean confidence, accuracy, number of images.

    `confidence` float [N] in [0, 1], `correct` bool [N]. The column perfect is the accuracy of a
    model whose confidence is right: the diagonal of the reliability diagram.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 1 and 2.
    """
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = pd.DataFrame({"confidence": confidence.astype(np.float64), "accuracy": correct})
    table = rows.groupby(bin_of).mean()
    table.insert(0, "bin", [f"{b / bins:.2f}–{(b + 1) / bins:.2f}" for b in table.index])
    return table.assign(perfect=table["confidence"], images=rows.groupby(bin_of).size())


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error: how far confidence is from accuracy, over bins of confidence.

    Arguments as of `reliability_table`; 0 is perfect, 1 the worst. Source: the same, equation 3.
    """
    table = reliability_table(confidence, correct)
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["images"]
    return float(gaps.sum() / len(confidence))


def class_table(
    predicted: np.ndarray, labels: np.ndarray, classes: Sequence[str | int]
) -> pd.DataFrame:
    """A row a class: precision, recall, F1 and support (its number of images).

    `predicted` and `labels` are indices of `classes`, int [N]. Where a ratio is 0 / 0 it is 0.
    """
    hits, answers, support = (
        np.bincount(indices, minlength=len(classes))
        for indices in (labels[predicted == labels], predicted, labels)
    )
    return pd.DataFrame(
        {
            "class": classes,
            "precision": hits / np.maximum(answers, 1),
            "recall": hits / np.maximum(support, 1),
            "f1": 2 * hits / np.maximum(answers + support, 1),
            "support": support,
        }
    )


def prediction_table(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """A row an image: its index, actual and predicted class, and the prediction's probability."""
    names = np.array(classes, dtype=object)  # of fixed width, numpy would drop a final NUL
    return pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "actual": names[labels],
            "predicted": names[probabilities.argmax(1)],
            "confidence": probabilities.max(1).astype(np.float64),
        }
    )
