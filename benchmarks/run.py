"""Measure this project on this machine: `make bench`, or `make bench QUICK=1`.

Everything runs in a scratch clone, as a user would run it. Prints a table and writes it, with the
machine, to benchmarks/results.json; benchmarks/README.md explains each row.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from mnist_pipeline.files import atomic
from mnist_pipeline.idx import read_idx, write_idx

# `dvc` and `python` are this environment's, whether it is active or not.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

RESULTS = ROOT / "benchmarks/results.json"
SEEDS = {"quick": 10, "good": 5}
# The peak of a program's resident memory, in MiB; pages of files that are mapped count. Linux's
# getrusage would carry over the peak of the program that started it.
PEAK = """
import pathlib, re, resource
status = pathlib.Path("/proc/self/status")
if status.exists():
    kib = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
else:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("peak", kib / 1024)
"""


class Clone:
    """This working tree, copied to a folder with its Git and DVC set up anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = self._output(
            ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"
        )
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        self.run("git", "init", "--quiet")
        self.commit()

    def reproduce(self) -> None:
        """Run the pipeline for the first time, timed, and commit it as the experiments' base."""
        start = time.perf_counter()
        output = self.run("dvc", "repro")
        self.first_repro, self.first_loop = time.perf_counter() - start, training_seconds(output)
        self.commit()

    def commit(self) -> None:
        """Commit everything, so that experiments have a base."""
        self.run("git", "add", "--all")
        who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        self.run("git", *who, "commit", "--quiet", "--allow-empty", "--message", "bench")

    def restore(self) -> None:
        """Undo what was changed since the last commit."""
        self.run("git", "checkout", "--quiet", ".")
        self.run("dvc", "checkout", "--quiet", "--force")

    def run(self, *command: str) -> str:
        """The command's output. Raises SystemExit: it failed."""
        return self._output(self.folder, *command)

    def seconds(self, *command: str) -> float:
        """How long the command takes."""
        start = time.perf_counter()
        self.run(*command)
        return time.perf_counter() - start

    @staticmethod
    def _output(folder: Path, *command: str) -> str:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"error: {shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def row(values: Sequence[float], unit: str) -> dict[str, Any]:
    """A figure of the table: the median of its runs, their range and their number."""
    return {
        "value": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "runs": len(values),
        "unit": unit,
    }


def loops(clone: Clone, quick: bool) -> dict[str, Any]:
    """One epoch of the tutorial's network, three ways, and the loader alone."""
    steps, repeats = (844, 9) if not quick else (300, 3)
    output = clone.run("python", "benchmarks/loops.py", str(steps), str(repeats))
    seconds = json.loads(output)
    ratios = {
        "tutorial / project": [
            a / b for a, b in zip(seconds["tutorial"], seconds["project"], strict=True)
        ],
        "project / products": [
            a / b for a, b in zip(seconds["project"], seconds["products"], strict=True)
        ],
        "loader / project": [
            a / b for a, b in zip(seconds["loader"], seconds["project"], strict=True)
        ],
    }
    return {
        **{f"{steps} steps, {name}": row(values, "s") for name, values in seconds.items()},
        **{name: row(values, "x") for name, values in ratios.items()},
    }


def pipeline(clone: Clone, quick: bool) -> dict[str, Any]:
    """A full `dvc repro`, its stages by hand, and one with nothing to do."""
    rows = {
        "dvc repro, everything": row([clone.first_repro], "s"),
        "of which the training loop": row([clone.first_loop], "s"),
        "everything but the loop": row([clone.first_repro - clone.first_loop], "s"),
    }
    for stage in ("download", "preprocess", "train", "evaluate"):
        rows[f"stage {stage}"] = row([clone.seconds("python", f"stages/{stage}.py")], "s")
        imports = f"import runpy; runpy.run_path('stages/{stage}.py', run_name='imports')"
        starts = [clone.seconds("python", "-c", imports) for _ in range(1 if quick else 3)]
        rows[f"imports of {stage}"] = row(starts, "s")
    clone.run("dvc", "repro")
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
            Clone._output(empty, *command)
        (empty / "dvc.yaml").write_text("stages: {}\n")
        noops: list[tuple[float, float]] = []
        for _ in range(2 if quick else 5):
            start = time.perf_counter()
            Clone._output(empty, "dvc", "repro")
            noops.append((clone.seconds("dvc", "repro"), time.perf_counter() - start))
        noops = [(ours, both - ours) for ours, both in noops]
    rows["dvc repro, nothing to do"] = row([ours for ours, _ in noops], "s")
    rows["dvc repro, an empty project"] = row([empty for _, empty in noops], "s")
    return rows


def training_seconds(output: str) -> float:
    """The seconds that the train stage says it took, over all networks."""
    found = re.findall(r"^Trained .* in ([\d.]+) s", output, re.MULTILINE)
    return sum(map(float, found))


def memory(clone: Clone, quick: bool) -> dict[str, Any]:
    """Peak resident memory of the stages, over that of importing their libraries."""

    def peak(code: str) -> float:
        output = clone.run("python", "-c", f"{code}\n{PEAK}")
        return float(output.rsplit("peak ", 1)[1])

    def stage(name: str) -> str:
        return f"import runpy\nrunpy.run_path('stages/{name}.py', run_name='__main__')"

    return {
        "train over import torch": row([peak(stage("train")) - peak("import torch")], "MiB"),
        "preprocess over import numpy": row(
            [peak(stage("preprocess")) - peak("import numpy")], "MiB"
        ),
    }


def scaling(clone: Clone, quick: bool) -> dict[str, Any]:
    """Preprocess, and one epoch, with ten times the images: the same ones, repeated."""
    raw = clone.folder / "data/raw/MNIST/raw"
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    whole = {name: read_idx(raw / name) for name in names}
    count = 6_000 if quick else 60_000
    path = clone.folder / "params.yaml"
    path.write_text(re.sub(r"^epochs: \d+", "epochs: 1", path.read_text(), flags=re.MULTILINE))
    description = clone.folder / "data/raw/dataset.json"
    described = description.read_text()
    figures: dict[str, list[float]] = {"preprocess": [], "train": []}
    peaks: list[float] = []
    for times in (1, 10):
        for name in names:
            images = np.concatenate([whole[name][:count]] * times)
            (raw / name).unlink()
            write_idx(raw / name, images)
        redescribe(clone, description, described)
        for stage in figures:
            code = f"import runpy\nrunpy.run_path('stages/{stage}.py', run_name='__main__')\n{PEAK}"
            seconds: list[float] = []
            for _ in range(1 if quick else 3):
                start = time.perf_counter()
                output = clone.run("python", "-c", code)
                lasted = time.perf_counter() - start
                seconds.append(training_seconds(output) if stage == "train" else lasted)
            figures[stage].append(statistics.median(seconds))
            if stage == "train":
                peaks.append(float(output.rsplit("peak ", 1)[1]))
    clone.restore()
    tensors = 9 * count * (784 + 8) / 2**20  # images and labels, both splits
    return {
        **{f"{stage}, 10 x {count} images": row([b / a], "x") for stage, (a, b) in figures.items()},
        "train's memory for 10 x": row([peaks[1] - peaks[0]], "MiB"),
        "the tensors' own size": row([tensors], "MiB"),
    }


def redescribe(clone: Clone, description: Path, described: str) -> None:
    """Give dataset.json the checksums of the files that lie there now."""
    from mnist_pipeline.files import sha256

    content = json.loads(described)
    for file in content["files"].values():
        file["sha256"] = sha256(clone.folder / "data/raw" / file["path"])
    description.write_text(json.dumps(content))


def processes(clone: Clone, quick: bool) -> dict[str, Any]:
    """The default training in one process and in several, each with one thread."""
    rows: dict[str, Any] = {}
    curves: list[np.ndarray] = []
    for number in () if quick else (1, 2, 4):
        launcher = f"torchrun --standalone --nproc-per-node {number}" if number > 1 else "python"
        output = clone.run("env", "OMP_NUM_THREADS=1", *launcher.split(), "stages/train.py")
        history = np.genfromtxt(clone.folder / "metrics/history.csv", delimiter=",", names=True)
        curves.append(history["validation_loss"])
        rows[f"processes: {number}, training"] = row([training_seconds(output)], "s")
        difference = float(abs(curves[-1] - curves[0]).max())
        rows[f"processes: {number}, validation loss differs"] = row([1e6 * difference], "1e-6")
    clone.restore()
    return rows


def recipes(clone: Clone, quick: bool) -> dict[str, Any]:
    """Each of recipes/ over seeds: accuracy on the test split, and seconds of training."""
    rows: dict[str, Any] = {}
    for name, seeds in SEEDS.items():
        if quick and name != "quick":
            continue
        runs = [recipe(clone, name, f"seed={seed}") for seed in range(1 if quick else seeds)]
        rows |= recipe_rows(name, [accuracy for accuracy, _ in runs], [time for _, time in runs])
    if not quick:
        accuracy, seconds = recipe(clone, "best", "ensemble=3")
        members = clone.run("python", "benchmarks/members.py").split()
        rows |= recipe_rows("best", [float(member) for member in members], [seconds / 3])
        rows["best, ensemble of 3: test accuracy"] = row([100 * accuracy], "%")
    return rows


def recipe(clone: Clone, name: str, override: str) -> tuple[float, float]:
    """Run one as an experiment; its test accuracy and seconds of training."""
    clone.restore()
    settings = shlex.split((clone.folder / "recipes" / name).read_text())
    output = clone.run("dvc", "exp", "run", *settings, "-S", override)
    metrics = json.loads((clone.folder / "metrics/test.json").read_text())
    print(
        f"  {name} {override}: {metrics['accuracy']:.4f}, {training_seconds(output)} s", flush=True
    )
    return metrics["accuracy"], training_seconds(output)


def recipe_rows(name: str, accuracies: Sequence[float], seconds: Sequence[float]) -> dict[str, Any]:
    """The mean and standard deviation over seeds, and the seconds."""
    percent = [100 * accuracy for accuracy in accuracies]
    deviation = statistics.stdev(percent) if len(percent) > 1 else 0.0
    accuracy = row(percent, "%") | {
        "value": round(statistics.mean(percent), 3), "sd": round(deviation, 3)
    }  # fmt: skip
    return {f"{name}: test accuracy": accuracy, f"{name}: training": row(seconds, "s")}


SECTIONS = {
    "loops": loops,
    "pipeline": pipeline,
    "memory": memory,
    "scaling": scaling,
    "processes": processes,
    "recipes": recipes,
}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    model = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if Path("/proc/cpuinfo").exists()
        else None
    )
    return {
        "processor": model.group(1) if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "dvc", "numpy")},
    }


def main() -> None:
    """Run the sections asked for, print and write their rows; other rows stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="|".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="less of everything; not written")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(Path(folder) / "clone")
        clone.reproduce()
        for name in arguments.sections or SECTIONS:
            print(f"\n{name}: {SECTIONS[name].__doc__}", flush=True)
            rows = SECTIONS[name](clone, arguments.quick)
            for label, figure in rows.items():
                spread = (
                    f"{figure['min']} to {figure['max']}, {figure['runs']} runs"
                    if figure["runs"] > 1
                    else ""
                )
                if "sd" in figure:
                    spread = f"± {figure['sd']}, {spread}"
                print(f"  {label:40} {figure['value']:>10} {figure['unit']:4} {spread}", flush=True)
            results[name] = {"machine": machine(), "rows": rows}
            if not arguments.quick:
                with atomic(RESULTS) as temporary:
                    temporary.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
