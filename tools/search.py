"""Search the space of search.yaml with Optuna: each trial is an experiment of DVC.

Chosen is by the validation loss, and a trial runs `train` only: the test split is measured once,
by `dvc repro`, after one of them was applied. The study is kept in a database: a search that was
interrupted goes on, and several may share it. A trial whose search was killed counts as failed.

Each worker has a clone of its own below .dvc/tmp/search, with this project's cache. So all trials
run what the workspace was when the search began, and it can be worked in meanwhile.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import optuna
from optuna.trial import TrialState
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from mnist_pipeline.errors import UserError, run_stage
from mnist_pipeline.params import BLOCKS, Params, Settings, read_params
from mnist_pipeline.yamlfiles import ParamsError, explain, read_yaml

SPACE, FOLDER = ROOT / "search.yaml", ROOT / ".dvc/tmp/search"
DEFAULT_STORAGE = f"sqlite:///{FOLDER}/trials.db"
DATABASE_ERRORS = (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError)

TAKEN = (TrialState.COMPLETE, TrialState.RUNNING)

INCOMPARABLE = {"dataset", "folder", "validation_fraction", "loss"}
"""Settings that change what a validation loss is."""

HEARTBEAT, SILENCE = 5, 30
"""Seconds between a running trial's signs of life, and without one until it counts as failed."""

FAILURES = 3
"""So many failed trials in a row end a search: the next would most likely fail too."""


class Range(Settings):
    """The numbers from `low` to `high`, both included."""

    low: int | float
    high: int | float
    log: bool = False


Space = dict[str, Range | list[Any]]


def main() -> None:
    """Search. Raises UserError: a mistake in a setting, git, or the database can't be reached."""
    try:
        search()
    except DATABASE_ERRORS as error:  # without the URL, which may hold a password
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise UserError(f"the storage's database can't be used: {reason}") from None


def search() -> None:
    """Go on with the study of this code, params and space until enough trials have finished."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--trials", type=positive, default=20, help="to be finished in all")
    parser.add_argument("--workers", type=positive, default=1, help="trials at a time")
    parser.add_argument("--storage", default=DEFAULT_STORAGE, help="the database's URL")
    options = parser.parse_args()
    params = read_params(ROOT / "params.yaml", Params)
    if params.validation_fraction == 0:
        raise UserError("validation_fraction: found 0, expected more: a search chooses by it")
    space = read_space(SPACE, params)
    FOLDER.mkdir(parents=True, exist_ok=True)
    remove_leftovers()

    # As DVC takes the workspace for an experiment: what Git tracks, changes included.
    changed = git(ROOT, "status", "--porcelain", "--untracked-files=no")
    base = git(ROOT, *(["stash", "create"] if changed else ["rev-parse", "HEAD"]))
    study = Study(options.storage, base, options.trials)
    print(f"{study.name}: {study.count(TrialState.COMPLETE)} of {options.trials} trials finished")
    if study.count(TrialState.COMPLETE) < options.trials:
        workers = [Worker(FOLDER / f"{os.getpid()}-{n}", base) for n in range(options.workers)]
        dvc(workers[0].folder, "repro", "preprocess")  # once; the others find it in the run cache
        with ThreadPoolExecutor(options.workers) as pool:
            for done in [pool.submit(study.work, worker, space, params) for worker in workers]:
                done.result()
        remove_leftovers()
    best, finished = study.optuna().best_trial, study.count(TrialState.COMPLETE)
    print(f"The best validation loss of {finished} trials is {best.value}. To take it over:")
    print(f"  dvc exp apply {study.experiment(best.number)} && dvc repro")


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def read_space(path: Path, params: Params) -> Space:
    """The search space, each of its values one that params.yaml could have.

    Raises ParamsError: missing or malformed file, unknown setting, wrong value, empty range.
    """
    content = {str(name): values for name, values in read_yaml(path).items()}
    problems = [
        problem for name, values in content.items() for problem in problems_of(name, values, params)
    ]
    if problems:
        raise ParamsError(path, problems)
    return {
        name: Range.model_validate(values) if isinstance(values, dict) else values
        for name, values in content.items()
    }


def problems_of(name: str, values: object, params: Params) -> list[str]:
    """What is wrong with an entry of the space, a line each."""
    if name in INCOMPARABLE:
        return [f"{name}: can't be searched, as it changes what the validation loss is"]
    if isinstance(values, dict):
        try:
            numbers = Range.model_validate(values)
        except ValidationError as error:
            return [f"{name}.{explain(details, Range)}" for details in error.errors()]
        if numbers.low >= numbers.high:
            return [f"{name}: found low {numbers.low}, expected less than high {numbers.high}"]
        if numbers.log and numbers.low <= 0:
            return [f"{name}: found low {numbers.low}, expected more than 0 for log: true"]
        values = [numbers.low, numbers.high]
    if not isinstance(values, list) or not values:
        return [f"{name}: expected a list of values, or {{low: number, high: number}}"]
    return [problem for value in values for problem in refusals(params, name, value)]


def refusals(params: Params, name: str, value: object) -> list[str]:
    """Why params.yaml could not have this value in this setting."""
    try:
        Params.model_validate(with_setting(params.model_dump(), name, value))
    except ValidationError as error:
        return [explain(details, Params) for details in error.errors()]
    return []


def with_setting(settings: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    """`settings` with the one of this dotted name changed, or added."""
    *blocks, last = name.split(".")
    place = settings
    for block in blocks:
        if not isinstance(place.get(block), dict):
            place[block] = {}
        place = place[block]
    place[last] = value
    return settings


def draw(trial: optuna.Trial, space: Space, params: Params) -> list[str]:
    """One point of the space, as `-S` takes it."""
    drawn: dict[str, Any] = {}
    blocks = {block: choice for choice, block in BLOCKS.items()}
    for name in sorted(space, key=lambda name: name not in BLOCKS):  # choices before their blocks
        block, _, rest = name.partition(".")
        if block in blocks:
            choice = blocks[block]
            if rest.partition(".")[0] != drawn.get(choice, getattr(params, choice)):
                continue
        values = space[name]
        if isinstance(values, list):  # Optuna's database keeps texts and numbers, no lists
            texts = [v if isinstance(v, str) else json.dumps(v) for v in values]
            drawn[name] = trial.suggest_categorical(name, texts)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            drawn[name] = trial.suggest_int(name, values.low, values.high, log=values.log)
        else:
            drawn[name] = trial.suggest_float(name, values.low, values.high, log=values.log)
    return [f"{name}={drawn[name]}" for name in space if name in drawn]


class Worker:
    """A clone in which one experiment after the other runs."""

    def __init__(self, folder: Path, base: str) -> None:
        self.folder, self.base = folder, base
        git(ROOT, "clone", "--quiet", "--shared", str(ROOT), str(folder))
        for name in ("user.name", "user.email"):
            if not (value := git(ROOT, "config", "--get", "--default", "", name)):
                raise UserError(f"an experiment is a commit; set git's {name}, which is empty")
            git(folder, "config", name, value)
        dvc(folder, "cache", "dir", "--local", dvc(ROOT, "cache", "dir").strip())
        self.restore()

    def restore(self) -> None:
        """Undo what the last experiment changed; the data stays."""
        git(self.folder, "read-tree", "--reset", "-u", self.base)

    def run(self, experiment: str, settings: Sequence[str]) -> float:
        """Run an experiment and bring it into the project; its validation loss.

        Raises UserError: a stage failed.
        """
        self.restore()
        # Among them are another model's test metrics, which nobody would write anew.
        shutil.rmtree(self.folder / "metrics", ignore_errors=True)
        options = [text for setting in settings for text in ("-S", setting)]
        dvc(self.folder, "exp", "run", "--name", experiment, *options, "train")
        pattern = f"refs/exps/*/*/{experiment}"
        ref = git(self.folder, "for-each-ref", "--format=%(refname)", pattern)
        git(self.folder, "push", "--quiet", "--force", "origin", f"{ref}:{ref}")
        metrics = json.loads((self.folder / "metrics/train.json").read_text())
        return float(metrics["validation_loss"])


class Surplus(Exception):  # noqa: N818
    """Enough trials are running or have finished without this one."""


class Study:
    """The trials of one space, code and data settings; another of these is another study."""

    def __init__(self, url: str, base: str, trials: int) -> None:
        self.trials = trials
        sources = ("search.yaml", "params.yaml", "dvc.yaml", "src", "stages")
        what = [f"{base}:{source}" for source in sources]
        digest = hashlib.sha256(git(ROOT, "rev-parse", *what).encode()).hexdigest()
        self.name = f"search-{digest[:7]}"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.storage = open_storage(url)

    def optuna(self) -> optuna.Study:
        """Optuna's own view of it, for one thread; a new study where there is none."""
        return optuna.create_study(storage=self.storage, study_name=self.name, load_if_exists=True)

    def experiment(self, number: int) -> str:
        """The name of a trial's experiment."""
        return f"{self.name}-{number}"

    def count(self, *states: TrialState, below: float = float("inf")) -> int:
        """How many trials of a lower number, if one is given, are in one of these states."""
        trials = self.optuna().get_trials(deepcopy=False, states=states)
        return sum(trial.number < below for trial in trials)

    def work(self, worker: Worker, space: Space, params: Params) -> None:
        """Run trials until enough have finished, here and elsewhere."""
        study = self.optuna()
        failures, waiting = 0, False

        def objective(trial: optuna.Trial) -> float:
            # Of workers that begin at once, those with the lowest numbers go on.
            if self.count(*TAKEN, below=trial.number) >= self.trials:
                raise Surplus
            # A seed a trial, so that a search that was interrupted doesn't draw the same again.
            study.sampler = optuna.samplers.TPESampler(seed=trial.number, constant_liar=True)
            settings = draw(trial, space, params)
            try:
                loss = worker.run(self.experiment(trial.number), settings)
            except UserError as error:
                print(f"trial {trial.number}: failed: {' '.join(settings)}: {error}")
                raise
            print(f"trial {trial.number}: validation loss {loss}: {' '.join(settings)}")
            return loss

        while self.count(TrialState.COMPLETE) < self.trials:
            optuna.storages.fail_stale_trials(study)
            if self.count(*TAKEN) >= self.trials:
                if not waiting:
                    print(f"waiting for the last trials; one killed elsewhere fails in {SILENCE} s")
                waiting = True
                time.sleep(1)
                continue
            waiting = False
            try:
                study.optimize(objective, n_trials=1, catch=Surplus)
                failures = 0
            except UserError as error:
                failures += 1
                if failures == FAILURES:
                    raise UserError(f"{FAILURES} trials failed one after the other") from error


def open_storage(url: str, tries: int = 3) -> optuna.storages.RDBStorage:
    """The database of this URL. Of two searches that create its tables at once, one tries again."""
    try:
        return optuna.storages.RDBStorage(url, heartbeat_interval=HEARTBEAT, grace_period=SILENCE)
    except SQLAlchemyError:
        if tries == 1:
            raise
        time.sleep(1)
        return open_storage(url, tries - 1)


def git(folder: Path, *arguments: str) -> str:
    """What git says. Raises UserError: it failed."""
    return called(folder, "git", *arguments).strip()


def dvc(folder: Path, *arguments: str) -> str:
    """What DVC says. Raises UserError: it or a stage failed."""
    return called(folder, sys.executable, "-m", "dvc", *arguments)


def called(folder: Path, *command: str) -> str:
    """What a command wrote to its standard output. Raises UserError: it failed; its own reason."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = [line for line in lines if line.lower().startswith(("error: ", "fatal: "))]
        reason = (said or lines[-1:] or [f"exit code {done.returncode}"])[0]
        raise UserError(reason.partition(": ")[2] if said else f"{' '.join(command)}: {reason}")
    return done.stdout


def remove_leftovers() -> None:
    """Delete the clones of this search, and of those that were killed."""
    for folder in FOLDER.glob("*-*"):
        pid = int(folder.name.partition("-")[0])
        if pid == os.getpid() or not running(pid):
            shutil.rmtree(folder, ignore_errors=True)


def running(pid: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    run_stage(main)
