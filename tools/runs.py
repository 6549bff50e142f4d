"""The runs of this project: those in Git, and those of which the files are being written.

A run is known by the files that its stages write: metrics/history.csv, after every epoch, and
metrics/test.json. What belongs to them, params above all, is in dvc.lock once DVC has finished.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from _tool import ROOT

import psutil
import yaml
from workers import run_git

from mnist_pipeline.splits.read import PreprocessSettings
from mnist_pipeline.training.settings import UNTRACKED, TrainSettings

HISTORY, TEST, MODEL = "metrics/history.csv", "metrics/test.json", "models/model.safetensors"

CLONES = ".dvc/tmp/search/clones/*/*"
NOTES = (".dvc/tmp/exps/run/*/*.run", ".dvc/tmp/exps/standalone/run/*/*.run")  # of experiments
RUNNING, SUCCEEDED = 2, 3  # of DVC's TaskStatus

BLOCKS = PreprocessSettings.choices() | TrainSettings.choices()
CHOICES = {block: choice for choice, block in BLOCKS.items()}

MALFORMED = (AttributeError, KeyError, TypeError, yaml.YAMLError)

Files = Mapping[str, bytes]
Params = Mapping[str, bool | int | float | str]


class Run(NamedTuple):
    """What is known of a run."""

    history: bytes
    params: Params
    metrics: Mapping[str, float]  # of the test split, once there are any
    changed: float  # when the history was written, in seconds


class Loader(yaml.CSafeLoader):
    """Read 1e-8 as a number, as DVC does and PyYAML does not."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z"), None
)


def find_runs(known: Mapping[str, Run]) -> dict[str, Run]:
    """Find all runs, by the names of experiments, "HEAD" and "workspace".

    `known` are those that were found the last time.
    """
    runs = finished_experiments(known)
    folders = running_experiments()
    for name, folder in folders.items():
        found = unfinished_run(*read_folder(folder), known.get(name))
        if found and found.history != history_before(folder):
            runs[name] = found
    if ROOT not in folders.values():
        files = read_folder(ROOT)
        found = finished_run(*files) or unfinished_run(*files, known.get("workspace"))
        if found and all(found.history != other.history for other in runs.values()):
            runs["workspace"] = found
    return runs


def finished_experiments(known: Collection[str]) -> dict[str, Run]:
    """HEAD and its experiments, like `dvc exp show`, and others that have ended lately."""
    lines = run_git("show-ref", "--head").stdout.decode().splitlines()
    refs = {ref: commit for commit, ref in (line.split(" ", 1) for line in lines)}
    head = refs.get("HEAD", "")
    commits = {"HEAD": head}
    for ref, commit in refs.items():
        match ref.split("/"):
            case ["refs", "exps", start, rest, name] if start + rest == head or name in known:
                commits[name] = commit
    return {name: found for name, commit in commits.items() if (found := read_commit(commit))}


def running_experiments() -> dict[str, Path]:
    """Find the folder of each experiment that is running."""
    projects = [ROOT, *(clone / subfolder() for clone in ROOT.glob(CLONES))]
    folders = {}
    for project, notes in product(projects, NOTES):
        for path in project.glob(notes):
            with suppress(OSError, ValueError):  # it has just ended, or DVC is writing the note
                note = json.loads(path.read_bytes())
                copy = Path(note["root_dir"], note["dvc_dir"]).parent
                folder = project if note["location"] == "workspace" else copy
                is_running = note["status"] == RUNNING and is_alive(path, folder)
                # One that has succeeded is about to be committed.
                if folder.exists() and (is_running or note["status"] == SUCCEEDED):
                    folders[note["name"] or folder.name] = folder
    return folders


@cache
def subfolder() -> str:
    """The folder of the project in its repository."""
    return run_git("rev-parse", "--show-prefix").stdout.decode().strip()


def is_alive(note: Path, folder: Path) -> bool:
    """Whether the process of an experiment lives; DVC writes its id to one of two files."""
    path = note.with_suffix(".json")
    text = (path if path.exists() else folder / ".dvc/tmp/rwlock").read_text()
    return all(psutil.pid_exists(int(pid)) for pid in re.findall(r'"pid": (\d+)', text))


def history_before(folder: Path) -> bytes:
    """The history that an experiment began with; its train stage replaces it."""
    return run_git("-C", str(folder), "show", f"refs/exps/exec/EXEC_MERGE:./{HISTORY}").stdout


def read_folder(folder: Path) -> tuple[Files, float]:
    """Read the files of a run in a folder, and the time at which its history was written."""
    files, changed = {}, 0.0
    for name in ("params.yaml", "dvc.lock", HISTORY, TEST):
        with suppress(OSError):  # it is not there, or on Windows is being replaced
            files[name] = (folder / name).read_bytes()
            changed = (folder / HISTORY).stat().st_mtime
    return files, changed


@cache
def read_commit(commit: str) -> Run | None:
    """Read the run of a commit; None if it has none."""
    archive = run_git("archive", commit, "dvc.lock", "metrics")
    if archive.returncode:
        return None
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        files = {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
        return finished_run(files, tar.getmembers()[0].mtime)


def finished_run(files: Files, changed: float) -> Run | None:
    """The run that dvc.lock records; None if the history is that of another one."""
    try:
        history, stages = files[HISTORY], read_yaml(files["dvc.lock"])["stages"]
        outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
        if outs[HISTORY] != md5(history):
            return None
        params: dict[str, Any] = {}
        for stage in stages.values():
            params |= stage.get("params", {}).get("params.yaml", {})
        deps = stages.get("evaluate", {}).get("deps", [])
        tested = {dep["path"]: dep["md5"] for dep in deps}
    except MALFORMED:  # a file is missing, or DVC is writing the lock
        return None
    # Until the evaluate stage has run, the test metrics are those of another model.
    test = files.get(TEST, b"")
    is_tested = tested.get(MODEL) == outs.get(MODEL) and outs.get(TEST) == md5(test)
    return Run(history, flatten(params), json.loads(test) if is_tested else {}, changed)


def unfinished_run(files: Files, changed: float, known: Run | None) -> Run | None:
    """The run that is writing the history, or has stopped halfway; `known` is its state before.

    Its params are those of params.yaml when it was first found: one may edit the file meanwhile.
    """
    history = files.get(HISTORY, b"")
    if known and history.startswith(known.history):
        return Run(history, known.params, {}, changed)
    try:
        settings = read_yaml(files["params.yaml"])
        names = settings.keys() - UNTRACKED - {"mirrors"} - set(BLOCKS.values())
        params = {name: settings[name] for name in names}
        for choice, block in BLOCKS.items():
            params[f"{block}.{params[choice]}"] = settings[block][params[choice]]
    except MALFORMED:  # it is being edited
        return None
    return Run(history, flatten(params), {}, changed) if history else None


@lru_cache(maxsize=8)
def read_yaml(content: bytes) -> Any:
    """Read YAML, the same content once: dvc.lock takes 20 ms. Not to be changed."""
    return yaml.load(content, Loader)


def md5(content: bytes) -> str:
    """MD5 in hexadecimal, as in dvc.lock."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, those in {"optimizers.sgd": {...}} as "optimizer.lr"; lists as text."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            block = name.partition(".")[0]
            flat |= {f"{CHOICES.get(block, block)}.{key}": entry for key, entry in value.items()}
        else:
            flat[name] = value
    return {name: str(value) if isinstance(value, list) else value for name, value in flat.items()}
