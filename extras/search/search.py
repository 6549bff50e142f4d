"""Search the space of extras/search/search.yaml with Optuna: every trial is a DVC experiment.

Trials are ranked by validation loss, never by the test split. Each worker runs the whole pipeline
in a clone of its own, which has the state of the workspace at the start of the search and shares
its cache. The study is kept in a database: an interrupted search continues with the next call, and
several machines can share it.
"""

import argparse
import hashlib
import json
import math
import secrets
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("tools", "")]

from _tool import ROOT

import filelock
import optuna
import yaml
from optuna.storages import RDBStorage
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from workers import not_copied, shares

from extras._clone import Clone, call
from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.common.settings import ConflictError, Settings, read_settings
from mnist_pipeline.common.yamlfiles import ParamsError, explain, read_yaml
from mnist_pipeline.raw.sources import OWN_DATA, DownloadSettings
from mnist_pipeline.splits.read import PreprocessSettings
from mnist_pipeline.training.settings import TrainSettings

SPACE = "extras/search/search.yaml"
FOLDER = ROOT / ".dvc/tmp/search"
DATABASE_ERRORS = (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError)

INCOMPARABLE = {*DownloadSettings.model_fields, *PreprocessSettings.model_fields, "loss"}
"""Settings that change what a validation loss means."""


class Params(DownloadSettings, PreprocessSettings, TrainSettings):
    """All settings of params.yaml."""


MAX_IN_A_ROW = {"failed": 3, "pruned": 30}
"""Consecutive trials without a loss that end a search, as the next would most likely have none too.

A trial is pruned if its settings, valid one by one, do not fit together: another sample may.
"""

HEARTBEAT, GRACE = 5, 30
"""Seconds between two heartbeats of a trial, and without one until it counts as failed."""


class Range(Settings):
    """The numbers from `low` to `high`, both included."""

    low: int | float
    high: int | float
    log: bool = False


Space = dict[str, Range | list[Any]]


def main() -> None:
    """Run or continue a search. Raises UserError: a wrong setting, failing trials, no database."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--trials", type=int, default=20, help="finished trials, in total")
    parser.add_argument("--workers", type=int, default=1, help="trials that run at a time")
    parser.add_argument("--storage", default=f"sqlite:///{FOLDER}/trials.db", help="database URL")
    options = parser.parse_args()
    if min(options.trials, options.workers) < 1:
        raise UserError("TRIALS and WORKERS: expected positive integers")
    params = read_settings(ROOT / "params.yaml", Params)
    try:
        call(ROOT, "git", "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    except UserError:
        raise UserError("an experiment is a commit: set Git's user.name and user.email") from None
    if params.validation_fraction == 0:
        raise UserError("validation_fraction: found 0, expected more: trials are ranked by it")
    space = read_space(ROOT / SPACE, params)
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        storage = open_storage(options.storage)
        with clones_folder() as folder:
            clones = make_clones(folder, options.workers, params)
            Search(space, params, storage, clones).optimize(options.trials)
    except DATABASE_ERRORS as error:  # without the URL, which may hold a password
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise UserError(f"the storage's database cannot be used: {reason}") from None


def read_space(path: Path, params: Params) -> Space:
    """Read the search space and check that params.yaml accepts each of its values, by itself.

    Which of them fit together, and fit the data, is known to the stages that a trial runs.
    Raises ParamsError: missing or malformed file, unknown setting, wrong value, empty range.
    """
    content, problems = read_yaml(path), []
    for name, values in content.items():
        problems += find_problems(str(name), values, params)
    if problems:
        raise ParamsError(path, problems)
    return TypeAdapter(Space).validate_python(content)


def find_problems(name: str, values: object, params: Params) -> list[str]:
    """What is wrong with an entry of the space, one line per problem."""
    if name.partition(".")[0] in INCOMPARABLE:
        return [f"{name}: cannot be searched, because it changes what a validation loss means"]
    if isinstance(values, dict):
        try:
            numbers = Range.model_validate(values)
        except ValidationError as error:
            return [f"{name}.{explain(details, Range.names)}" for details in error.errors()]
        if numbers.low >= numbers.high:
            return [f"{name}: found low {numbers.low}, expected less than high {numbers.high}"]
        if numbers.log and numbers.low <= 0:
            return [f"{name}: found low {numbers.low}, expected more than 0 for log: true"]
        values = [numbers.low, numbers.high]
    if not isinstance(values, list) or not values:
        return [f"{name}: expected a list of values, or {{low: number, high: number}}"]
    problems = []
    for value in values:
        settings = params.model_dump()
        replace(settings, name, value)
        try:
            Params.model_validate(settings)
        except ValidationError as error:
            problems += [explain(details, Params.names) for details in error.errors()]
    return problems


def replace(settings: dict[str, Any], name: str, value: object) -> None:
    """Set the entry of a dotted name in nested dictionaries, in place."""
    *blocks, key = name.split(".")
    for block in blocks:
        if not isinstance(settings.get(block), dict):
            settings[block] = {}
        settings = settings[block]
    settings[key] = value


@contextmanager
def clones_folder() -> Iterator[Path]:
    """Yield a folder for clones; first remove those of killed searches, whose locks are free."""
    clones, locks = FOLDER / "clones", FOLDER / "locks"
    clones.mkdir(exist_ok=True)
    locks.mkdir(exist_ok=True)
    for folder in clones.iterdir():
        with suppress(filelock.Timeout), filelock.FileLock(locks / folder.name, blocking=False):
            shutil.rmtree(folder, ignore_errors=True)
    own = clones / secrets.token_hex(4)
    with filelock.FileLock(locks / own.name):  # before other searches can see it
        try:
            own.mkdir()
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


def make_clones(folder: Path, num_workers: int, params: Params) -> list[Clone]:
    """A clone of the workspace's state for each worker; the first one has preprocessed the data.

    Raises UserError: a clone does not have the data that params.yaml names.
    """
    # The workspace as DVC takes it for an experiment: tracked files with their changes.
    changed = call(ROOT, "git", "status", "--porcelain", "--untracked-files=no")
    base = call(ROOT, "git", *(["stash", "create"] if changed else ["rev-parse", "HEAD"]))
    clones = [
        Clone(folder / str(number), base, share) for number, share in enumerate(shares(num_workers))
    ]
    for setting in OWN_DATA:
        path = getattr(params, setting)
        if not (clones[0].folder / path).exists():
            raise UserError(f"{setting}: {not_copied(path)}")
    clones[0].dvc("repro", "preprocess")  # once; the other clones find it in the run cache
    return clones


class Search:
    """An Optuna study whose trials are DVC experiments."""

    def __init__(
        self, space: Space, params: Params, storage: RDBStorage, clones: Sequence[Clone]
    ) -> None:
        self.space, self.params = space, params
        self.name = f"search-{fingerprint(clones[0])}"
        self.storage = storage
        self.study = optuna.create_study(storage=storage, study_name=self.name, load_if_exists=True)
        self.num_workers = len(clones)
        self.clones: SimpleQueue[Clone] = SimpleQueue()
        for clone in clones:
            self.clones.put(clone)
        self.in_a_row: Counter[str] = Counter()  # trials without a loss, by what became of them
        self.seen: dict[int, float] = {}  # when each running trial was first seen
        self.awaited: list[int] = []

    def optimize(self, num_trials: int) -> None:
        """Run trials until this many have finished, here and on machines that share the study."""
        done, started = [TrialState.COMPLETE], [TrialState.COMPLETE, TrialState.RUNNING]
        print(f"{self.name}: {self.count(done)} of {num_trials} trials finished")
        while self.count(done) < num_trials:
            self.fail_killed_trials()
            self.study.optimize(
                self.evaluate,
                n_trials=max(0, num_trials - self.count(started)),
                n_jobs=self.num_workers,
                catch=UserError,
                callbacks=[MaxTrialsCallback(num_trials, started)],  # others start trials as well
            )
            for outcome, limit in MAX_IN_A_ROW.items():
                if self.in_a_row[outcome] >= limit:
                    raise UserError(f"{limit} trials in a row {outcome}; see the reasons above")
            self.wait()
        best = self.study.best_trial
        print(f"Lowest validation loss: {best.value:.6f}, in trial {best.number}. To apply it:")
        print(f"  dvc exp apply {self.name}-{best.number}")

    def fail_killed_trials(self) -> None:
        """Let trials whose search was killed count as failed.

        Optuna does so GRACE seconds after the last heartbeat, and never if there was none. A trial
        that still runs when its first heartbeat is due therefore gets one here.
        """
        now = time.monotonic()
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if now - self.seen.setdefault(trial.number, now) > HEARTBEAT:
                self.storage.record_heartbeat(trial._trial_id)
                self.seen[trial.number] = math.inf  # only once, or it would never turn stale
        optuna.storages.fail_stale_trials(self.study)

    def wait(self) -> None:
        """Wait a second for trials of other searches to finish, or killed ones to turn stale."""
        running = [t.number for t in self.study.get_trials(states=[TrialState.RUNNING])]
        if running and running != self.awaited:
            print(
                f"waiting for trials {', '.join(map(str, running))}: another search runs them;"
                f" if it was killed, they count as failed within a minute"
            )
        self.awaited = running
        time.sleep(1)

    def count(self, states: Sequence[TrialState]) -> int:
        """Count the trials that are in one of these states."""
        return len(self.study.get_trials(deepcopy=False, states=states))

    def evaluate(self, trial: optuna.Trial) -> float:
        """Optuna's objective: a trial's validation loss.

        Raises UserError: the trial failed; TrialPruned: its settings do not fit together.
        """
        # A seed per trial: neither a continued search nor another machine repeats the samples.
        self.study.sampler = optuna.samplers.TPESampler(seed=trial.number)
        settings = sample(trial, self.space, self.params)
        clone = self.clones.get()
        try:
            loss = run_trial(clone, f"{self.name}-{trial.number}", settings)
            if self.name != f"search-{fingerprint(clone)}":
                raise UserError("the data have changed since the search began; start another")
        except UserError as error:
            outcome = "pruned" if isinstance(error, ConflictError) else "failed"
            print(f"trial {trial.number} {outcome}: {error}: {' '.join(settings)}")
            self.in_a_row[outcome] += 1
            if self.in_a_row[outcome] >= MAX_IN_A_ROW[outcome]:
                self.study.stop()
            if outcome == "pruned":
                raise optuna.TrialPruned from None
            raise
        finally:
            self.clones.put(clone)
        print(f"trial {trial.number}: validation loss {loss:.6f}: {' '.join(settings)}")
        self.in_a_row.clear()
        return loss


def run_trial(clone: Clone, experiment: str, settings: Sequence[str]) -> float:
    """Run an experiment, bring it into the project, return its validation loss.

    Raises UserError: a stage failed; ConflictError: the settings do not fit together.
    """
    clone.restore()
    clone.dvc("exp", "run", "--name", experiment, *(f"--set-param={s}" for s in settings))
    clone.push(experiment)
    metrics = (clone.folder / "metrics/train.json").read_text("utf-8")
    return json.loads(metrics)["validation_loss"]


def open_storage(url: str, retries: int = 2) -> RDBStorage:
    """Open a database, and create its tables if it has none.

    Raises UserError: `url` is malformed. It is not shown, since it may hold a password.
    """
    try:  # a second @ would make the rest of a password the host, which errors name
        well_formed = not (make_url(url).host and url.count("@") > 1)
    except (ArgumentError, ValueError):  # a port that is no number may be a password
        well_formed = False
    if not well_formed:
        raise UserError(
            "STORAGE: not a database URL, expected one such as"
            " postgresql+psycopg://USER@HOST/DATABASE; write %40 for @ in a name or password"
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        return RDBStorage(url, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
    except SQLAlchemyError:  # another machine may be creating the tables
        if retries == 0:
            raise
        time.sleep(1)
        return open_storage(url, retries - 1)


def fingerprint(clone: Clone) -> str:
    """Digest of what the trials of a study have in common: code, packages, params, space, data.

    The data is what DVC has recorded of the stage that reads it, wherever it is.
    """
    paths = ("src", "stages", "dvc.yaml", "requirements.lock", "params.yaml", SPACE)
    code = call(ROOT, "git", "rev-parse", *(f"{clone.base}:./{path}" for path in paths))
    lock = yaml.safe_load((clone.folder / "dvc.lock").read_text("utf-8"))
    data = json.dumps(lock["stages"]["preprocess"])
    return hashlib.sha256(f"{code} {data}".encode()).hexdigest()[:7]


def sample(trial: optuna.Trial, space: Space, params: Params) -> list[str]:
    """Sample a point of the space, as `name=value` for `dvc exp run --set-param`.

    Settings of a model, augmentation, optimizer or schedule are sampled only if it is chosen.
    """
    choices = params.choices()
    sampled: dict[str, Any] = {}
    for name in sorted(space, key=lambda name: name not in choices):  # choices before their blocks
        settings = params.model_dump() | sampled
        chosen = {block: settings[choice] for choice, block in choices.items()}
        block, _, rest = name.partition(".")
        if block not in chosen or rest.startswith(f"{chosen[block]}."):
            sampled[name] = suggest(trial, name, space[name])
    return [f"{name}={sampled[name]}" for name in space if name in sampled]


def suggest(trial: optuna.Trial, name: str, values: Range | list[Any]) -> str | int | float:
    """Let Optuna choose one of `values`."""
    if isinstance(values, list):  # as text, since Optuna's database stores no lists
        texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        return trial.suggest_categorical(name, texts)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)


if __name__ == "__main__":
    run_script(main)
