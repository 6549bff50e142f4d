"""Run a commit's pipeline again, from the raw files, and compare every out with its dvc.lock.

    python tools/verify.py [REVISION]

REVISION is an experiment, branch, tag or commit; without it, HEAD. The pipeline runs with this
Python in a temporary clone that has a cache of its own: no out and no run of this project's cache
is used, and nothing in the project changes. The exit code is 0 if all is identical, 1 if anything
differs, 2 if it could not be compared.
"""

import argparse
import json
import platform
import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from _tool import ROOT

import torch
from _lock import Entries, differing_inputs, differing_outs, dvc_md5, objects, outs, read_lock
from _processor import this_processor
from _rerun import clone, look_up, run_pipeline

from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.model.tensors import load_tensors
from mnist_pipeline.training.fingerprint import differences

MODEL = "models/model.safetensors"
AREAS = {"data/raw": "raw", "data/processed": "splits", "models": "model", "metrics": "metrics"}
"""What the outs in each folder are called, in the order of the data flow."""

Numbers = dict[str, object]
"""Numbers that a person compares, by file and name."""


class Different(SystemExit):
    """Exit with 1: something differs."""


def run() -> None:
    """Run `main`; whatever error ends it, exit with 2, as 1 would say that something differs."""
    try:
        run_script(main)
    except Different:
        raise
    except SystemExit as end:
        sys.exit(2 if end.code == 1 else end.code)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(2)


def main() -> None:
    """Verify a revision. Raises UserError; Different: anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("revision", nargs="?", default="HEAD", help="experiment or commit")
    revision = parser.parse_args().revision
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # which lets the clone be removed
    try:
        with TemporaryDirectory(prefix="verify-", ignore_cleanup_errors=True) as folder:
            if not is_identical(revision, Path(folder).resolve()):
                raise Different(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def is_identical(revision: str, folder: Path) -> bool:
    """Run a revision in an empty folder and print what is not as committed.

    Raises UserError: there is nothing to compare with, or the pipeline does not run to its end.
    """
    start = time.monotonic()
    commit, cache = look_up(revision)
    project = clone(commit, folder, cache)
    try:
        committed = read_lock(project / "dvc.lock")
    except UserError as error:
        raise UserError(f"{revision}: {error}") from None
    num_copies, problems = check_copies(project, committed, cache)
    numbers = read_numbers(project, committed)
    print(f"Running the pipeline of {revision} ({commit[:7]}) in {project}", flush=True)
    run_pipeline(project, folder)

    found = read_lock(project / "dvc.lock")
    problems += differing_numbers(numbers, read_numbers(project, committed))
    wrong = differing_outs(committed, found)
    if wrong:
        first = f"outs that differ from those of the run, first the {first_area(wrong)}"
        problems = [f"{first}: {', '.join(wrong)}", *problems]
    problems += differing_inputs(committed, found, wrong)
    print(
        f"\nCompared {len(outs(committed))} outs of {revision} ({commit[:7]}) with a run from the"
        f" raw files, and {num_copies} copies with dvc.lock, byte by byte,\non {this_processor()},"
        f" with Python {platform.python_version()} and torch {torch.__version__}, in"
        f" {time.monotonic() - start:.0f} s"
    )
    print("\n  ".join(["different:", *problems]) if problems else "identical")
    if MODEL in wrong:
        print("\n  ".join(["Known reasons that apply:", *known_reasons(project, committed, cache)]))
    elif wrong:
        print("Known reasons that apply: none, as the model is the same")
    return not problems


def check_copies(project: Path, committed: Entries, cache: Path) -> tuple[int, list[str]]:
    """Compare the copies that people look at with dvc.lock: how many, and which are not the same.

    They are in Git, in this project's cache and, unless its dvc.lock has changed, in the workspace.
    """
    lock = (project / "dvc.lock").read_bytes()
    places = {"Git": project}
    if (ROOT / "dvc.lock").is_file() and (ROOT / "dvc.lock").read_bytes() == lock:
        places["the workspace"] = ROOT
    same = {
        f"{path} in {place}": dvc_md5(folder / path) == md5
        for place, folder in places.items()
        for path, md5 in outs(committed).items()
        if (folder / path).exists()
    }
    for path, md5 in outs(committed).items():
        same |= {f"{path} in the cache ({file})": good for file, good in objects(cache, md5)}
    return len(same), [f"{copy} is not what dvc.lock names" for copy in same if not same[copy]]


def read_numbers(project: Path, lock: Entries) -> Numbers:
    """Every number of the JSON files among the outs that are there, by file and name."""
    numbers: Numbers = {}
    for path in outs(lock):
        with suppress(OSError, ValueError, AttributeError):  # missing, or forged
            if path.startswith("metrics/") and path.endswith(".json"):
                content = json.loads((project / path).read_bytes())
                numbers |= {f"{path}: {name}": value for name, value in content.items()}
    return numbers


def differing_numbers(committed: Numbers, found: Numbers) -> list[str]:
    """What a run has found otherwise."""
    return [
        f"{name}: {committed.get(name)} committed, {value} in the run"
        for name, value in found.items()
        if committed.get(name) != value
    ]


def known_reasons(project: Path, committed: Entries, cache: Path) -> list[str]:
    """Why the outs of the same commit may differ, of what docs/reliability.md lists."""
    params = {name: value for (_, kind, name), value in committed.items() if kind == "params"}
    reasons = []
    if not torch.cpu.get_capabilities().get("avx2"):
        reasons.append("a processor without AVX2")
    if params.get("arithmetic") == "native":
        reasons.append("arithmetic: native depends on the processor, the GPU and the threads")
    if params.get("optimizer") == "rmsprop":
        reasons.append("optimizer: rmsprop rounds differently on processors of other vendors")
    if packages := other_packages(project / "requirements.lock"):
        reasons.append(f"packages other than in requirements.lock: {', '.join(packages)}")
    md5 = outs(committed).get(MODEL, "")
    model = next((file for file, good in objects(cache, md5) if good), None)
    if model is None:
        reasons.append("not known: the committed model is not in the cache; 'dvc pull' fetches it")
    else:
        with suppress(UserError, KeyError):
            here, there = (
                load_tensors(path)[1]["environment"] for path in (project / MODEL, model)
            )
            if text := differences(here, there):
                reasons.append(f"the environment of the training run: {text}")
    return reasons or ["none of docs/reliability.md"]


def other_packages(lock: Path) -> list[str]:
    """Installed packages whose version is not in a requirements file."""
    pinned: dict[str, set[str]] = {}
    for name, number in re.findall(
        r"^([\w.-]+)==([^\s;\\]+)", lock.read_text("utf-8"), re.MULTILINE
    ):
        pinned.setdefault(name, set()).add(number)
    found = []
    for name, numbers in pinned.items():
        with suppress(PackageNotFoundError):  # one of another system
            if version(name).partition("+")[0] not in numbers:
                found.append(f"{name} {version(name)}")
    return found


def first_area(wrong: Sequence[str]) -> str:
    """The first of raw, splits, model and metrics that has an out among `wrong`."""
    areas = (area for start, area in AREAS.items() if any(path.startswith(start) for path in wrong))
    return next(areas, "outs of other folders")


if __name__ == "__main__":
    run()
