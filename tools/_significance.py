"""Confidence intervals and significance tests of accuracies."""

import numpy as np
from scipy.stats import binomtest, ttest_ind

THRESHOLD = 0.05
"""A p-value below this counts as evidence of a difference."""


def wilson_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """95% confidence interval of an accuracy.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, Journal of
    the American Statistical Association 22, 1927.
    """
    low, high = binomtest(num_correct, num_images).proportion_ci(method="wilson")
    return float(low), float(high)


def describe(correct: np.ndarray) -> str:
    """Accuracy, its interval and the number of errors, given which images are correct, bool [N]."""
    num_correct, num_images = int(correct.sum()), len(correct)
    low, high = wilson_interval(num_correct, num_images)
    return (
        f"{num_correct / num_images:.2%} (95% interval {low:.2%} to {high:.2%}),"
        f" {num_images - num_correct:,} errors"
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """P-value of the exact McNemar test of two models on the same images.

    `only_a` and `only_b` count the images that only model A and only model B classifies correctly.
    If both models are equally good, such an image is of either kind with probability 1/2.
    Source: Fagerland, Lydersen and Laake, The McNemar test for binary matched-pairs data, BMC
    Medical Research Methodology 13:91, 2013: the exact conditional test.
    """
    discordant = only_a + only_b
    return float(binomtest(only_a, discordant).pvalue) if discordant else 1.0


def welch(a: np.ndarray, b: np.ndarray) -> float:
    """P-value of Welch's t-test: two means, of two or more values each, whose variances may differ.

    Source: Welch, The generalization of "Student's" problem when several different population
    variances are involved, Biometrika 34, 1947.
    """
    return float(ttest_ind(a, b, equal_var=False).pvalue)


def format_p(p: float) -> str:
    """A p-value with two digits."""
    return f"p = {p:.2g}" if p >= 1e-100 else "p < 1e-100"
