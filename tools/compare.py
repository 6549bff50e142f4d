"""Is one model better than another, and what do several reach together, on the test images?

    python tools/compare.py [A B] [--classes]
    python tools/compare.py --vote A...

A and B are experiments, branches, tags or commits, or "workspace"; without them, HEAD and the
workspace. A pattern stands for all experiments of such names: "quick-*", "quick-[0-4]". One run on
each side compares two models; several, each with a seed of its own, compare how they were trained.

A vote averages the probabilities of all models. DVC provides their files from the cache or a
remote, so the members of an ensemble can be trained in parallel in the queue.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from _tool import ROOT

import numpy as np
import pandas as pd
from _classes import MOST_CLASSES, WORST
from _dvc import expand, read_each
from _significance import THRESHOLD, describe, format_p, mcnemar, welch
from scipy.stats import sem

from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.model.files import Model, ModelSpec, check_dataset, load_model
from mnist_pipeline.model.inference import inference_loader, predict_logits
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.runtime.arithmetic import HardwareSettings, set_up
from mnist_pipeline.splits.batches import load_info, load_split

DATA = ROOT / "data/processed"
MODEL, PREDICTIONS = "models/model.safetensors", "metrics/predictions.csv"


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
    """Print how both sides differ, or how well all models vote."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "sides", nargs="*", metavar="SIDE", help="experiment, pattern, commit or workspace"
    )
    parser.add_argument("--classes", action="store_true", help="also count errors in each class")
    parser.add_argument("--vote", action="store_true", help="average the models' probabilities")
    options = parser.parse_args()
    names = options.sides or ["HEAD", "workspace"]
    if options.vote:
        vote([revision for name in names for revision in expand(name)])
    elif len(names) == 2:
        a, b = read_sides(names)
        compare(a, b, options.classes)
    else:
        raise UserError(f'found {" and ".join(names)}; expected two to compare: EXPS="A B"')


def compare(a: Side, b: Side, by_class: bool) -> None:
    """Print how two sides differ, and in which classes if asked."""
    if len(a.runs) == len(b.runs) == 1:
        compare_models(a, b)
    else:
        compare_settings(a, b)
    if by_class:
        table = class_table(a, b)
        shown = differing_most(table) if len(table) > MOST_CLASSES else table
        print(f"\n{shown.to_string(index=False, float_format='{:.1f}'.format)}")
        if len(shown) < len(table):
            print(f"These {len(shown)} of {len(table)} classes differ most in their errors")


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

    Its chance is that of the seeds: all runs are tested on the same images, so it says nothing of
    others. Raises UserError: a side has a single run, a run is on both sides, or no side's runs
    differ in their number of errors.
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
    print(f"This speaks of other seeds on these {len(a.actual):,} test images, not of other images")


def conclude(a: Side, b: Side, p: float, test: str, evidence: str) -> None:
    """Print in one sentence whether a side is better."""
    better, worse = sorted((a, b), key=lambda side: side.errors.mean())
    fewer = f"{worse.errors.mean() - better.errors.mean():,.1f}".removesuffix(".0")
    average = " on average" if len(a.runs) > 1 else ""
    found = f"No difference that {evidence} can show"
    if p < THRESHOLD:
        found = f"{better.name} is better: {fewer} fewer errors{average}"
    print(f"{found}, {format_p(p)} ({test}, threshold {THRESHOLD})")


def vote(runs: Sequence[str]) -> None:
    """Print the accuracy of each model, and of their averaged probabilities."""
    probabilities, labels = predict(runs, "test")
    width = max(map(len, [*runs, "together"]))
    for name, each in zip(runs, probabilities, strict=True):
        print(f"{name:{width}}  {describe(each.argmax(1) == labels)}")
    if len(runs) > 1:
        print(f"{'together':{width}}  {describe(probabilities.sum(0).argmax(1) == labels)}")


def predict(runs: Sequence[str], split: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float64 [R, N, C] that the model of each run predicts, and labels int64 [N].

    Raises UserError: a model cannot be read, or is of another dataset than data/processed.
    """
    device = set_up(HardwareSettings(arithmetic="native", device="auto", threads="auto"))
    info, images = load_info(DATA), load_split(DATA, split)

    def read(path: Path) -> tuple[Model, ModelSpec]:
        model, spec = load_model(path)
        check_dataset(spec, info, "all that vote must be trained on the dataset in data/processed")
        return model, spec

    loader = inference_loader(images.to(device))
    probabilities = np.zeros((len(runs), len(images), len(info.classes)))
    for number, (model, spec) in enumerate(read_each(runs, MODEL, read)):
        logits, labels = predict_logits(model.to(device), loader, device)
        probabilities[number] = LOSSES[spec.loss]().probabilities(logits).numpy()
    return probabilities, labels.numpy()


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


def differing_most(table: pd.DataFrame) -> pd.DataFrame:
    """The WORST rows of a class table in which the errors of the sides differ most."""
    difference = (table.iloc[:, 2] - table.iloc[:, 3]).abs()
    return table.loc[difference.sort_values(ascending=False, kind="stable").index[:WORST]]


if __name__ == "__main__":
    run_script(main)
