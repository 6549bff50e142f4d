"""Is one model better than another? Compare their predictions on the test images.

    python tools/compare.py [A B] [--classes]

A and B are experiments, branches, tags or commits, or "workspace"; without them, HEAD and the
workspace. A pattern stands for all experiments of such names: "quick-*", "quick-[0-4]". One run on
each side compares two models; several, each with a seed of its own, compare how they were trained.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import _tool  # noqa: F401

import numpy as np
import pandas as pd
from _dvc import expand, read_each
from _significance import THRESHOLD, describe, format_p, mcnemar, welch
from scipy.stats import sem

from mnist_pipeline.common.errors import UserError, run

PREDICTIONS = "metrics/predictions.csv"


class Side(NamedTuple):
    """One or several runs: the actual class of each test image [N], the predicted ones [R, N]."""

    name: str
    runs: list[str]
    actual: np.ndarray
    predicted: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Whether each run classifies each image correctly, bool [R, N]."""
        return self.predicted == self.actual

    @property
    def errors(self) -> np.ndarray:
        """Number of errors of each run, [R]."""
        return (~self.correct).sum(1)


def main() -> None:
    """Read the predictions of both sides and print how they differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "sides", nargs="*", metavar="SIDE", help="experiment, pattern, commit or workspace"
    )
    parser.add_argument("--classes", action="store_true", help="also count errors in each class")
    options = parser.parse_args()
    names = options.sides or ["HEAD", "workspace"]
    if len(names) != 2:
        raise UserError(f'found {" and ".join(names)}; expected two to compare: EXPS="A B"')
    a, b = read_sides(names)
    if len(a.runs) == len(b.runs) == 1:
        compare_models(a, b)
    else:
        compare_settings(a, b)
    if options.classes:
        table = class_table(a, b)
        print(f"\n{table.to_string(index=False, float_format='{:.1f}'.format)}")


def read_sides(names: Sequence[str]) -> list[Side]:
    """Read the predictions of all runs of both sides.

    Raises UserError: a run cannot be read, or two were tested on different images.
    """
    sides = [(name, expand(name)) for name in names]
    revisions = [revision for _, runs in sides for revision in runs]
    contents = read_each(revisions, PREDICTIONS, read_predictions)
    tables = dict(zip(revisions, contents, strict=True))
    check_images(tables)
    actual = contents[0]["actual"].to_numpy()
    return [
        Side(name, runs, actual, np.array([tables[revision]["predicted"] for revision in runs]))
        for name, runs in sides
    ]


def check_images(tables: Mapping[str, pd.DataFrame]) -> None:
    """Raise a UserError if two runs were tested on different images."""
    (first, expected), *others = tables.items()
    for other, table in others:
        if not table["actual"].equals(expected["actual"]):
            raise UserError(
                f"{first} and {other}: tested on different images ({len(expected)} and"
                f" {len(table)}), expected the same; 'dvc params diff {first} {other}' shows how"
                " their settings differ"
            )


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a table that evaluate wrote; a class may be named "NA"."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def compare_models(a: Side, b: Side) -> None:
    """Print the accuracy of each model and what the exact McNemar test says of them."""
    num_images, width = len(a.actual), max(len(a.name), len(b.name))
    for side in (a, b):
        print(f"{side.name:{width}}  {describe(side.correct[0])}")
    if np.array_equal(a.predicted, b.predicted):
        print(f"{a.name} and {b.name} predict the same class for every image")
        return
    only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
    print(f"Only {a.name} is right on {only_a:,} images, only {b.name} on {only_b:,}")
    conclude(a, b, mcnemar(only_a, only_b), "exact McNemar test", f"{num_images:,} images")
    print("This compares two models; to compare their settings, give several seeds on each side")


def compare_settings(a: Side, b: Side) -> None:
    """Print the mean accuracy of each side's runs and what Welch's t-test says of them.

    Raises UserError: a side has a single run, a run is on both sides, or no side's runs differ in
    their number of errors.
    """
    names, num_runs = f"{a.name} and {b.name}", f"{len(a.runs)} and {len(b.runs)} runs"
    if 1 in (len(a.runs), len(b.runs)):
        raise UserError(f"{names}: found {num_runs}, expected one on each side or several on each")
    if shared := sorted(set(a.runs) & set(b.runs)):
        raise UserError(f"{names}: found {shared[0]} on both sides, expected different runs")
    if not any(np.ptp(side.errors) for side in (a, b)):
        raise UserError(
            f"{names}: all runs of a side have the same number of errors, expected runs with"
            " different seeds"
        )
    accuracies = [side.correct.mean(1) for side in (a, b)]
    width = max(len(a.name), len(b.name))
    for side, values in zip((a, b), accuracies, strict=True):
        print(
            f"{side.name:{width}}  {values.mean():.3%} ± {sem(values):.3%} (mean of {len(values)}"
            f" runs and its standard error), {side.errors.mean():,.1f} errors"
        )
    conclude(a, b, welch(*accuracies), "Welch's t-test", num_runs)


def conclude(a: Side, b: Side, p: float, test: str, evidence: str) -> None:
    """Print in one sentence whether a side is better."""
    better, worse = sorted((a, b), key=lambda side: side.errors.mean())
    fewer = f"{worse.errors.mean() - better.errors.mean():,.1f}".removesuffix(".0")
    average = " on average" if len(a.runs) > 1 else ""
    found = f"No difference that {evidence} can show"
    if p < THRESHOLD:
        found = f"{better.name} is better: {fewer} fewer errors{average}"
    print(f"{found}, {format_p(p)} ({test}, threshold {THRESHOLD})")


def class_table(a: Side, b: Side) -> pd.DataFrame:
    """One row per class: images, errors of each side (the mean over its runs).

    For two models also the images that only one of them classifies correctly.
    """
    columns = {"class": a.actual, "images": np.ones(len(a.actual), int)}
    columns |= {f"errors of {side.name}": (~side.correct).mean(0) for side in (a, b)}
    if len(a.runs) == len(b.runs) == 1:
        columns |= {
            f"only {right.name} right": (right.correct & ~wrong.correct)[0]
            for right, wrong in ((a, b), (b, a))
        }
    return pd.DataFrame(columns).groupby("class", as_index=False).sum().convert_dtypes()


if __name__ == "__main__":
    run(main)
