"""Intervals and tests against published values and the definitions."""

from math import comb

import numpy as np
import pytest
from _significance import describe, format_p, mcnemar, welch, wilson_interval
from hypothesis import given
from hypothesis import strategies as st

COUNTS = st.integers(0, 300)


def test_wilson_interval() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I
    for num_correct, num_images, expected in (
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ):
        assert wilson_interval(num_correct, num_images) == pytest.approx(expected, abs=5e-5)


@given(num_correct=COUNTS, num_wrong=COUNTS.filter(bool))
def test_an_interval_contains_the_accuracy_and_mirrors_that_of_the_errors(
    num_correct: int, num_wrong: int
) -> None:
    num_images = num_correct + num_wrong
    low, high = wilson_interval(num_correct, num_images)
    assert 0 <= low <= num_correct / num_images <= high <= 1
    assert wilson_interval(num_wrong, num_images) == pytest.approx((1 - high, 1 - low))


def test_description() -> None:
    correct = np.arange(10_000) >= 1024
    assert describe(correct) == "89.76% (95% interval 89.15% to 90.34%), 1,024 errors"


def test_mcnemar() -> None:
    # Fagerland, Lydersen and Laake, 2013: airway hyper-responsiveness
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar(0, 0) == 1


@given(only_a=COUNTS, only_b=COUNTS)
def test_mcnemar_is_twice_the_tail_of_tosses_of_a_coin(only_a: int, only_b: int) -> None:
    tosses, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(comb(tosses, heads) for heads in range(fewer + 1)) / 2**tosses
    assert mcnemar(only_a, only_b) == pytest.approx(min(1, 2 * tail))
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_welch() -> None:
    # Student, The probable error of a mean, 1908: hours of sleep gained with two drugs; as in R
    first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert welch(first, second) == pytest.approx(0.07939, abs=5e-6)


def test_p_values() -> None:
    values = (1, 0.0312, 0.00004567, 1e-99, 1e-101, 0)
    assert [format_p(p) for p in values] == [
        "p = 1",
        "p = 0.031",
        "p = 4.6e-05",
        "p = 1e-99",
        "p < 1e-100",
        "p < 1e-100",
    ]
