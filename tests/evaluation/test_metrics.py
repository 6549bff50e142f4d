"""Metrics and tables against small cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_fscore_support

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.evaluation.metrics import (
    class_table,
    expected_calibration_error,
    prediction_table,
    reliability_table,
    summary,
)

PROBABILITIES = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
LABELS = np.array([0, 1, 1, 1])


def test_summary() -> None:
    result = summary(PROBABILITIES, LABELS, 0.25)
    assert (result["accuracy"], result["errors"], result["loss"]) == (0.75, 1, 0.25)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert result["expected_calibration_error"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.1) / 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_have_no_metrics(value: float) -> None:
    probabilities = PROBABILITIES.copy()
    probabilities[1, 0] = value
    with pytest.raises(UserError, match="not finite for 1 of 4 images"):
        summary(probabilities, LABELS, 0.25)


def test_calibration_is_perfect_where_confidence_is_accuracy() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4 + [[0.0, 1.0]] * 4)
    labels = np.array([0, 0, 0, 1] + [1] * 4)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0)
    assert expected_calibration_error(np.eye(2)[[0, 0, 1]], np.array([1, 1, 0])) == 1


def test_reliability() -> None:
    probabilities = np.array([[0.4, 0.3, 0.3], [0.55, 0.45, 0], [0.65, 0.35, 0], [0, 1, 0]])
    labels = np.array([1, 0, 1, 1])
    table = reliability_table(probabilities, labels, bins=2)
    assert table["bin"].tolist() == ["0.00–0.50", "0.50–1.00"]
    assert table["images"].tolist() == [1, 3]
    assert table["accuracy"].tolist() == pytest.approx([0, 2 / 3])
    assert table["confidence"].tolist() == pytest.approx([0.4, 2.2 / 3])
    assert table["perfect"].equals(table["confidence"])


def test_tables() -> None:
    table = class_table(PROBABILITIES, LABELS, ["cat", "dog"])
    assert table["class"].tolist() == ["cat", "dog"]
    assert table["precision"].tolist() == [0.5, 1.0]
    assert table["recall"].tolist() == pytest.approx([1.0, 2 / 3])
    assert table["support"].tolist() == [1, 3]
    rows = prediction_table(PROBABILITIES, LABELS, ["cat", "dog"])
    assert rows.loc[1].to_dict() == {
        "index": 1,
        "actual": "dog",
        "predicted": "cat",
        "confidence": 0.6,
    }


@pytest.mark.parametrize("predicted", [[0, 0], [0, 1]])
def test_a_class_without_images_is_left_out(predicted: list[int]) -> None:
    probabilities, labels = np.eye(2)[predicted], np.array([0, 0])
    table = class_table(probabilities, labels, ["a", "b"])
    assert table.loc[1].isna().to_dict() == dict(
        zip(table, [False, True, True, True, False], strict=True)
    )
    assert summary(probabilities, labels, 0.0)["macro_f1"] == table["f1"][0]


@settings(deadline=None)  # scikit-learn's first call imports more of it
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_metrics_equal_those_of_scikit_learn(answers: list[tuple[int, int]]) -> None:
    predicted, labels = np.array(answers).T
    table = class_table(np.eye(5)[predicted], labels, "abcde")
    expected = precision_recall_fscore_support(labels, predicted, labels=range(5), zero_division=0)
    tested = np.unique(labels)
    for column, values in zip(["precision", "recall", "f1", "support"], expected, strict=True):
        assert table[column][tested].tolist() == pytest.approx(list(values[tested]))
    macro_f1 = summary(np.eye(5)[predicted], labels, 0.0)["macro_f1"]
    expected = f1_score(labels, predicted, labels=tested, average="macro", zero_division=0)
    assert macro_f1 == pytest.approx(expected)
