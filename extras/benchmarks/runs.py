"""Experiments of a benchmark: train those that are missing, and sum up what they reached."""

import os
import re
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("tools", "")]

from _tool import ROOT

from workers import shares

from extras._clone import Clone, call
from mnist_pipeline.common.files import atomic

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""The stages run `python`: this one."""
Row = dict[str, Any]


class Run(NamedTuple):
    """An experiment: its name and its settings, `name=value`."""

    name: str
    settings: Sequence[str]


def train(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, str]]:
    """Train experiments of HEAD's commit, `jobs` at a time; yield each with its output, in order.

    Each is trained anew, because the run cache does not know how long that took. Raises UserError:
    a stage failed.
    """
    if not runs:
        return
    base = call(ROOT, "git", "rev-parse", "HEAD")
    clones: SimpleQueue[Clone] = SimpleQueue()

    def train_one(run: Run) -> str:
        clone = clones.get()
        try:
            clone.restore()
            settings = [f"--set-param={setting}" for setting in run.settings]
            output = clone.dvc("exp", "run", "--force", "--name", run.name, *settings)
            clone.push(run.name)
        finally:
            clones.put(clone)
        return output

    parent = ROOT / ".dvc/tmp"  # where Clone can name the cache, whatever the project's path
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent) as folder, ThreadPoolExecutor(jobs) as pool:
        for number, share in enumerate(shares(jobs)):
            clones.put(Clone(Path(folder) / str(number), base, {"PATH": PATH, **share}))
        yield from zip(runs, pool.map(train_one, runs), strict=True)


def read_recipe(name: str) -> list[str]:
    """The settings of a recipe, `name=value`."""
    options = shlex.split((ROOT / "recipes" / name).read_text("utf-8"))
    return [option.removeprefix("--set-param=") for option in options]


def outcome(output: str) -> Row:
    """What an experiment printed: accuracies in percent, seconds of training, precision, threads.

    `validation` is that of the last epoch, or None if all images were trained on.
    """
    precision, threads = found(r"^Training on .* in (\w+), (\d+) threads?$", output)
    (seconds,) = found(r"^Trained .* in ([\d.]+) s$", output)
    (accuracy,) = found(r"^Accuracy of the model on .*: ([\d.]+)%$", output)
    validation = re.findall(r"^Epoch .* validation loss .*, accuracy ([\d.]+)%$", output, re.M)
    return {
        "accuracy": float(accuracy),
        "validation": float(validation[-1]) if validation else None,
        "seconds": float(seconds),
        "precision": precision,
        "threads": int(threads),
    }


def found(pattern: str, output: str) -> tuple[str, ...]:
    """The groups of a pattern in an output."""
    match = re.search(pattern, output, re.MULTILINE)
    assert match, output
    return match.groups()


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error, which a single value does not have."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return statistics.mean(values), error


def write_table(page: Path, name: str, table: str) -> None:
    """Replace what a page has between the comments `<!-- NAME -->` and `<!-- end -->`."""
    before, _, after = read_table(page, name)
    with atomic(page) as temporary:
        temporary.write_text(before + table + after, "utf-8", newline="\n")


def read_table(page: Path, name: str) -> list[str]:
    """A page's text before, in and after the table of this name."""
    pattern = rf"(?<=<!-- {name} -->\n)(.*?)(?=<!-- end -->)"
    return re.split(pattern, page.read_text("utf-8"), maxsplit=1, flags=re.DOTALL)
