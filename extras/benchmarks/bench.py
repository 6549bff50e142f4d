"""Measure the speed and accuracy of this project on this machine.

    python extras/benchmarks/bench.py [--quick] [SECTION...]

Everything runs in a scratch copy of the working tree. Prints a table per section and writes it,
with a description of the machine, to results.json; README.md explains the rows.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from extras.benchmarks.results import save

STAGES = ("download", "preprocess", "train", "evaluate")

# Not getrusage on Linux, because that starts at the peak of the process that started this one. At
# the end of the code, because the interpreter's exit needs another 100 MiB once torch is loaded.
PEAK = """
import pathlib, re, resource
status = pathlib.Path("/proc/self/status")
if status.exists():
    kib = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
else:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(kib / 1024)
"""
"""Python code that prints the peak resident memory of its process so far, in MiB."""

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """Output and duration of a command."""

    output: str
    seconds: float

    @property
    def training_seconds(self) -> float:
        """Duration of the training loop, as the train stage prints it."""
        return float(re.findall(r"^Trained .* in ([\d.]+) s", self.output, re.MULTILINE)[-1])

    @property
    def peak(self) -> float:
        """Peak resident memory in MiB, the last line printed by Python code that ends with PEAK."""
        return float(self.output.split()[-1])


def run(command: str, folder: Path) -> Run:
    """Run a command in `folder`. Raises SystemExit: it failed."""
    start = time.perf_counter()
    done = subprocess.run(shlex.split(command), cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"error: {command} failed:\n{done.stdout}{done.stderr}")
    return Run(done.stdout, seconds)


class Clone:
    """The working tree, uncommitted changes included, with Git history and DVC cache of its own."""

    def __init__(self, folder: Path) -> None:
        """Copy the working tree to the empty `folder` and reproduce the pipeline there."""
        self.folder = folder
        self.run("git init --quiet")
        git_dir = shlex.quote(str(folder / ".git"))
        run(f"git --git-dir {git_dir} --work-tree . add --all", ROOT)
        self.run("git checkout --quiet .")
        self.commit()  # DVC needs one
        self.first_repro = self.run("dvc repro")
        self.commit()

    def run(self, command: str) -> Run:
        """Run a command in the clone."""
        return run(command, self.folder)

    def python(self, code: str) -> Run:
        """Run Python code in stages/, so that it can import a stage."""
        return run(shlex.join(["python", "-c", code]), self.folder / "stages")

    def commit(self) -> None:
        """Commit everything, as the base of experiments."""
        self.run("git add --all")
        identity = "-c user.name=bench -c user.email=bench@localhost"
        self.run(f"git {identity} commit --quiet --allow-empty --message bench")

    def restore(self) -> None:
        """Undo all changes since the last commit."""
        self.run("git checkout --quiet .")
        self.run("dvc checkout --quiet --force")

    def set_epochs(self, epochs: int) -> None:
        """Change the number of epochs in params.yaml."""
        path = self.folder / "params.yaml"
        text = re.sub(r"^epochs: \d+", f"epochs: {epochs}", path.read_text(), flags=re.MULTILINE)
        path.write_text(text)


def row(unit: str, *values: float) -> dict[str, Any]:
    """One row of the results: the median of `values`, their range and their number."""
    return {
        "value": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "runs": len(values),
        "unit": unit,
    }


def loops(clone: Clone, quick: bool) -> Rows:
    """One epoch of the tutorial's network in three ways, and the loader alone."""
    steps, repeats = (300, 3) if quick else (844, 9)
    output = clone.run(f"python extras/benchmarks/loops.py {steps} {repeats}").output
    seconds = pd.DataFrame(json.loads(output))
    rows = {f"{steps} steps, {name}": row("s", *seconds[name]) for name in seconds}
    for a, b in (("tutorial", "project"), ("project", "products"), ("loader", "project")):
        rows[f"{a} / {b}"] = row("x", *seconds[a] / seconds[b])
    return rows


def pipeline(clone: Clone, quick: bool) -> Rows:
    """A full `dvc repro`, each stage and its imports, and a `dvc repro` with nothing to do."""
    first = clone.first_repro
    rows = {
        "dvc repro, everything": row("s", first.seconds),
        "of which the training loop": row("s", first.training_seconds),
        "everything but the loop": row("s", first.seconds - first.training_seconds),
    }
    for stage in STAGES:
        rows[f"stage {stage}"] = row("s", clone.run(f"python stages/{stage}.py").seconds)
        imports = [clone.python(f"import {stage}").seconds for _ in range(1 if quick else 3)]
        rows[f"imports of {stage}"] = row("s", *imports)
    clone.run("dvc repro")  # notes that the outs are those of its cache
    empty = empty_project(clone.folder.with_name("empty"))
    folders = [clone.folder, empty] * (2 if quick else 5)
    seconds = [run("dvc repro", folder).seconds for folder in folders]
    rows["dvc repro, nothing to do"] = row("s", *seconds[0::2])
    rows["dvc repro, an empty project"] = row("s", *seconds[1::2])
    return rows


def empty_project(folder: Path) -> Path:
    """Create a DVC project without stages."""
    folder.mkdir()
    run("git init --quiet", folder)
    run("dvc init --quiet", folder)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    return folder


def memory(clone: Clone, quick: bool) -> Rows:
    """Peak resident memory of two stages, over that of importing their main library."""
    rows = {}
    for stage, library in (("train", "torch"), ("preprocess", "numpy")):
        peak = clone.python(f"import {stage}; {stage}.main(){PEAK}").peak
        base = clone.python(f"import {library}{PEAK}").peak
        rows[f"{stage} over import {library}"] = row("MiB", peak - base)
    return rows


def processes(clone: Clone, quick: bool) -> Rows:
    """The default training in one process and in several, with one thread per process."""
    if quick:
        clone.set_epochs(1)
    rows: Rows = {}
    curves: list[pd.Series] = []
    for number in (1, 2) if quick else (1, 2, 4):
        launcher = f"torchrun --standalone --nproc-per-node {number}" if number > 1 else "python"
        done = clone.run(f"env OMP_NUM_THREADS=1 {launcher} stages/train.py")
        curves.append(pd.read_csv(clone.folder / "metrics/history.csv")["validation_loss"])
        difference = float((curves[-1] - curves[0]).abs().max())
        rows[f"processes: {number}, training"] = row("s", done.training_seconds)
        rows[f"processes: {number}, validation loss differs"] = row("1e-6", 1e6 * difference)
    clone.restore()
    return rows


SECTIONS: dict[str, Callable[[Clone, bool], Rows]] = {
    "loops": loops,
    "pipeline": pipeline,
    "memory": memory,
    "processes": processes,
}


def main() -> None:
    """Run the chosen sections, print and save their rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="|".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="measure less and save nothing")
    arguments = parser.parse_args()
    # `dvc` and `python` are those of this environment, whether it is active or not.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["MNIST_CACHE"] = "off"  # a download is a part of what is measured
    with TemporaryDirectory() as folder:
        clone_folder = Path(folder) / "clone"
        clone_folder.mkdir()
        clone = Clone(clone_folder)
        for name in arguments.sections or SECTIONS:
            section = SECTIONS[name]
            print(f"\n{name}: {section.__doc__}", flush=True)
            rows = section(clone, arguments.quick)
            print(pd.DataFrame.from_dict(rows, orient="index").to_string(na_rep=""), flush=True)
            if not arguments.quick:
                save(name, rows)


if __name__ == "__main__":
    main()
