"""Do models with different kernels vote better than models that differ in their seeds only?

    python extras/benchmarks/votes.py [--train] [--jobs 2]

--train trains what is missing: ten seeds of recipes/fair with kernels of 3, 5 and 7 pixels, as the
experiments fair-k3-0 to fair-k7-9; those of other code count as missing. (Where other commits have
experiments of these names, remove them: dvc exp remove --rev COMMIT NAME.) Then all of them predict
the images of data/processed, and the table of README.md is written.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("tools", "")]

from _tool import ROOT

import numpy as np
import yaml
from compare import predict

from extras._clone import call
from extras.benchmarks.results import read, save
from extras.benchmarks.runs import Row, Run, outcome, read_recipe, train, write_table
from mnist_pipeline.common.errors import UserError, run_script

PAGE = Path(__file__).with_name("README.md")
KERNELS, SEEDS, SIZES = (3, 5, 7), 10, (1, 3, 5)
MOST = 1000
"""Votes of one composition that are counted: all, or this many at random."""
SPLITS = {"validation": "held-out images", "test": "test images"}
MIXED = {1: [(1, 0, 0), (0, 1, 0), (0, 0, 1)], 3: [(1, 1, 1)], 5: [(2, 2, 1), (2, 1, 2), (1, 2, 2)]}
"""Compositions of mixed votes by their size: the number of models of each kernel."""


def main() -> None:
    """Train what is missing if asked, let all vote, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--train", action="store_true", help="train the models that are missing")
    parser.add_argument("--jobs", type=int, default=1, help="training runs at a time")
    options = parser.parse_args()
    if options.jobs < 1:
        raise UserError(f"--jobs: found {options.jobs}, expected a positive integer")
    runs = [
        Run(
            f"fair-k{kernel}-{seed}",
            [*read_recipe("fair"), f"models.cnn.kernel_size={kernel}", f"seed={seed}"],
        )
        for kernel in KERNELS
        for seed in range(SEEDS)
    ]
    if options.train:
        trained = trained_today()
        missing = [run for run in runs if run.name not in trained]
        for run, output in train(missing, options.jobs):
            print(f"{run.name}: {outcome(output)['seconds']} s", flush=True)
    save("votes", {split: count_errors([run.name for run in runs], split) for split in SPLITS})
    write_table(PAGE, "votes", table(read()))


def trained_today() -> set[str]:
    """Names of the experiments that were trained with the code and packages of HEAD's dvc.lock."""
    refs = call(ROOT, "git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").split()
    today = code_of("HEAD")
    return {ref.rpartition("/")[2] for ref in refs if code_of(ref) == today}


def code_of(revision: str) -> Row:
    """The MD5 of each file and folder of code that a revision's training ran."""
    lock = yaml.safe_load(call(ROOT, "git", "show", f"{revision}:./dvc.lock"))
    deps = lock["stages"]["train"]["deps"]
    return {dep["path"]: dep["md5"] for dep in deps if not dep["path"].startswith("data/")}


def count_errors(names: Sequence[str], split: str) -> Row:
    """Errors of the votes of each group and size, as [mean, standard error]."""
    probabilities, labels = predict(names, split)
    rows: Row = {"images": len(labels)}
    for size in SIZES:
        groups = {
            f"kernel {kernel}": left_out(probabilities, labels, alone(place, size))
            for place, kernel in enumerate(KERNELS)
        }
        same = np.mean(list(groups.values()), 0)
        groups["mixed"] = np.mean([left_out(probabilities, labels, m) for m in MIXED[size]], 0)
        groups["mixed − mean of the three"] = groups["mixed"] - same
        rows[str(size)] = {name: jackknife(values) for name, values in groups.items()}
    return rows


def alone(place: int, size: int) -> tuple[int, ...]:
    """The composition of a vote of one kernel."""
    return tuple(size * (place == other) for other in range(len(KERNELS)))


def left_out(
    probabilities: np.ndarray, labels: np.ndarray, composition: Sequence[int]
) -> np.ndarray:
    """Mean errors of all votes of a composition, then of those without each model, [1 + R].

    `probabilities` is [R, N, C], kernel by kernel; `labels` is [N].
    """
    num_models = len(probabilities)
    votes = members(composition, num_models // len(composition))
    errors = np.array([np.sum(probabilities[v].sum(0).argmax(1) != labels) for v in votes])
    without = [errors[(votes != model).all(1)].mean() for model in range(num_models)]
    return np.array([errors.mean(), *without])


def members(composition: Sequence[int], seeds: int) -> np.ndarray:
    """The models in each vote, int [V, size]: every choice, or `MOST` of them at random."""
    parts = [
        combinations(range(place * seeds, (place + 1) * seeds), count)
        for place, count in enumerate(composition)
    ]
    votes = np.array([sum(choice, ()) for choice in product(*parts)])
    if len(votes) <= MOST:
        return votes
    return np.random.default_rng(0).choice(votes, MOST, replace=False)


def jackknife(values: np.ndarray) -> list[float]:
    """A statistic and its standard error over seeds, from its values with each model left out.

    `values` is [1 + R], as from `left_out`. Votes share models, so their own spread would be too
    small an error. Source: Arvesen, Jackknifing U-statistics, Annals of Mathematical Statistics 40,
    1969.
    """
    groups = values[1:].reshape(len(KERNELS), -1)
    seeds = groups.shape[1]
    spread = np.square(groups - groups.mean(1, keepdims=True)).sum()
    return [round(float(values[0]), 3), round(float(np.sqrt((seeds - 1) / seeds * spread)), 3)]


def table(results: dict[str, Row]) -> str:
    """The page's table in Markdown, one for each kind of machine."""
    lines = []
    for name, sections in results.items():
        if rows := sections.get("votes", {}).get("rows"):
            titles = [
                f"{rows[split]['images']:,} {title}, {'one' if size == 1 else f'votes of {size}'}"
                for split, title in SPLITS.items()
                for size in SIZES
            ]
            lines += [f"On {name}:", "", f"| errors on | {' | '.join(titles)} |"]
            lines += [f"|---|{'---|' * len(titles)}"]
            for group in rows["test"]["1"]:
                cells = [rows[split][str(size)][group] for split in SPLITS for size in SIZES]
                shown = " | ".join(f"{mean:.1f} ± {error:.1f}" for mean, error in cells)
                lines.append(f"| {group} | {shown} |")
            lines.append("")
    return "\n".join(lines) or "Not measured yet: it takes about 20 minutes of two cores.\n"


if __name__ == "__main__":
    run_script(main)
