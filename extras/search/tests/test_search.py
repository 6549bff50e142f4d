"""`make search`: Optuna's trials as DVC's experiments, interrupted, continued, and ended early."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from extras.search import search
from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.settings import ConflictError, read_settings
from tests.conftest import ROOT
from tests.pipeline.layouts import (
    larger_repository,
    shallow_clone,
    submodule_with_hooks_and_pictures_under_dvc,
    worktree,
)
from tests.pipeline.project import Project
from tests.pipeline.test_folder import NAMES, write_pictures
from tests.pipeline.test_workers import recorded, threads

from . import postgresql

pytestmark = pytest.mark.pipeline

SPACE = """
optimizer: [sgd, adam]
optimizers.sgd.lr: {low: 0.01, high: 0.1, log: true}
optimizers.adam.lr: {low: 1e-4, high: 1e-2, log: true}
models.mlp.hidden_sizes: [[32], [64, 32]]
epochs: {low: 1, high: 2}
"""

# Stages of moments, whose metrics follow from the settings.
DVC_YAML = """
stages:
  preprocess:
    cmd: echo nothing
    deps: [stages/preprocess.py, "${folder}", "${arrays}"]
  train:
    cmd: python stages/train.py
    deps: [stages/train.py]
    params: [optimizer, "optimizers.${optimizer}", models.mlp, epochs]
    outs: [models/model.safetensors]
    metrics:
      - metrics/train.json: {cache: false}
  evaluate:
    cmd: python stages/evaluate.py
    deps: [models/model.safetensors]
    metrics:
      - metrics/test.json: {cache: false}
"""
TRAIN = """
import json, os, time, zlib
from pathlib import Path

while os.path.exists(os.environ.get("HOLD", "")):
    time.sleep(0.05)
if mark := os.environ.get("MARK"):
    Path(mark).touch()
loss = zlib.crc32(Path("params.yaml").read_bytes())
Path("models/model.safetensors").write_text(str(loss))
Path("metrics/train.json").write_text(json.dumps({"validation_loss": loss}))
"""
EVALUATE = """
import json
from pathlib import Path

loss = int(Path("models/model.safetensors").read_text())
Path("metrics/test.json").write_text(json.dumps({"loss": loss}))
"""


def prepare(project: Project, train: str = TRAIN) -> Project:
    """Replace the space and the stages."""
    project.install()
    contents = {
        "extras/search/search.yaml": SPACE,
        "dvc.yaml": DVC_YAML,
        "stages/train.py": train,
        "stages/evaluate.py": EVALUATE,
    }
    for name, content in contents.items():
        (project.folder / name).write_text(content)
    project.commit("a space and stages")
    return project


def storage_of(project: Project) -> str:
    return f"sqlite:///{project.folder}/.dvc/tmp/search/trials.db"


def trials_of(project: Project) -> list[optuna.trial.FrozenTrial]:
    storage = storage_of(project)
    names = optuna.get_all_study_names(storage)
    assert len(names) <= 1
    return [t for name in names for t in optuna.load_study(storage=storage, study_name=name).trials]


def experiments_of(project: Project) -> dict[int, Any]:
    """What `dvc exp show` tells of each trial's experiment, by the trial's number."""
    _, branch = json.loads(project.dvc("exp", "show", "--json"))
    return {
        int(experiment["name"].split("-")[-1]): experiment["revs"][0]["data"]
        for experiment in branch["experiments"]
    }


def start(project: Project, log: Path, *arguments: str, **env: str) -> subprocess.Popen:
    with log.open("w") as output:
        return subprocess.Popen(
            ["make", "search", *arguments],
            cwd=project.folder,
            env=project.env | env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for_trial(project: Project, search: subprocess.Popen, log: Path, finished: int) -> None:
    """Wait until so many trials have finished and the next one is running."""
    deadline = time.monotonic() + 600
    clones = project.folder / ".dvc/tmp/search/clones"
    while search.poll() is None and time.monotonic() < deadline:
        if log.read_text().count("validation loss") == finished and [*clones.glob("*/0/stages")]:
            states = [trial.state for trial in trials_of(project)]
            if states == [*[TrialState.COMPLETE] * finished, TrialState.RUNNING]:
                return
        time.sleep(0.3)
    raise AssertionError(log.read_text())


def test_a_search_killed_in_a_trial_and_continued_by_two_workers(
    clone: Project, tmp_path: Path
) -> None:
    project = prepare(clone)
    log, hold = tmp_path / "log", str(tmp_path / "hold")
    search = start(project, log, "TRIALS=3", HOLD=hold, MARK=hold)  # the second waits
    wait_for_trial(project, search, log, finished=1)
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()
    # Another one is killed between the creation of its trial and the first heartbeat.
    optuna.load_study(storage=storage_of(project), study_name=None).ask()

    output = project.run("make", "search", "TRIALS=3", "WORKERS=2")
    assert ": 1 of 3 trials finished" in output
    trials = {t.number: t for t in trials_of(project) if t.state == TrialState.COMPLETE}
    assert len(trials) == 3
    assert trials.keys().isdisjoint({1, 2}), "they were killed"
    assert output.count("waiting for trials 1, 2: another search runs them") == 1

    experiments = experiments_of(project)
    assert experiments.keys() == trials.keys()
    for number, trial in trials.items():
        settings = experiments[number]["params"]["params.yaml"]["data"]
        metrics = experiments[number]["metrics"]
        assert metrics["metrics/train.json"]["data"]["validation_loss"] == trial.value
        optimizer, epochs = trial.params["optimizer"], trial.params["epochs"]
        assert (settings["optimizer"], settings["epochs"]) == (optimizer, epochs)
        assert trial.params == {
            "optimizer": optimizer,
            f"optimizers.{optimizer}.lr": settings["optimizers"][optimizer]["lr"],
            "models.mlp.hidden_sizes": json.dumps(settings["models"]["mlp"]["hidden_sizes"]),
            "epochs": epochs,
        }
    losses = {e["metrics"]["metrics/test.json"]["data"]["loss"] for e in experiments.values()}
    assert len(losses) == 3, "each has test metrics of its own"
    assert project.run("git", "status", "--porcelain") == ""
    assert project.run("git", "branch", "--show-current") == "main\n"
    assert [*(project.folder / ".dvc/tmp/search/clones").iterdir()] == [], "that of the kill too"

    project.run("sh", "-c", output.splitlines()[-1])  # the line that applies the best trial
    best = min(trials.values(), key=lambda trial: trial.value or 0)
    assert project.read("metrics/train.json")["validation_loss"] == best.value
    assert (
        project.read("metrics/test.json")
        == (experiments[best.number]["metrics"]["metrics/test.json"]["data"])
    )
    assert "up to date" in project.dvc("status")


def test_code_changed_during_a_search_is_not_what_its_trials_run(
    clone: Project, tmp_path: Path
) -> None:
    project = prepare(clone)
    (project.folder / ".dvc/tmp/search").mkdir(parents=True)
    (project.folder / ".dvc/tmp/search/trials.db-journal").touch()  # no name in there is parsed
    log = tmp_path / "log"
    hold = tmp_path / "hold"
    hold.touch()
    search = start(project, log, "TRIALS=2", HOLD=str(hold))
    wait_for_trial(project, search, log, finished=0)
    with (project.folder / "stages/train.py").open("a") as code:
        code.write("raise SystemExit('error: changed code')\n")
    hold.unlink()
    assert search.wait(600) == 0, log.read_text()
    assert experiments_of(project).keys() == {0, 1}
    assert project.run("git", "status", "--porcelain") == " M stages/train.py\n"


def test_two_clones_share_a_postgresql_server(clone: Project, tmp_path: Path) -> None:
    if not postgresql.find("initdb"):
        pytest.skip("needs a PostgreSQL server")
    clones = [prepare(clone)]
    clones.append(clones[0].copy(tmp_path / "another clone"))
    with postgresql.server() as url:
        logs = [tmp_path / "log", tmp_path / "another log"]
        searches = [
            start(project, log, "TRIALS=6", f"STORAGE={url}")
            for project, log in zip(clones, logs, strict=True)
        ]
        for search, log in zip(searches, logs, strict=True):
            assert search.wait(600) == 0, log.read_text()
        (name,) = optuna.get_all_study_names(url)
        trials = optuna.load_study(storage=url, study_name=name).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6
    run_by = [experiments_of(project).keys() for project in clones]
    assert sorted([*run_by[0], *run_by[1]]) == list(range(6)), "each trial was run once"
    assert all(run_by), "both clones ran some"


def test_other_data_or_packages_begin_another_study(clone: Project, tmp_path: Path) -> None:
    project = prepare(clone)
    write_pictures(tmp_path / "shapes", NAMES, 2)
    project.set_params(dataset="folder", folder=str(tmp_path / "shapes"))

    def study() -> str:
        project.commit("as it is")
        ((name, done),) = re.findall(
            "(search-.*): (.) of 1 trials", project.run("make", "search", "TRIALS=1")
        )
        return f"{name} {done}"

    studies = [study()]
    (tmp_path / "shapes/三/1.png").unlink()
    studies.append(study())
    path = tmp_path / "a.npz"
    path.write_text("not read by this study's stages")
    project.set_params(dataset="arrays", folder="data/none", arrays=str(path))
    studies.append(study())
    with (project.folder / "requirements.lock").open("a") as lock:
        lock.write("# other packages\n")
    studies.append(study())
    assert len(set(studies)) == 4
    assert all(each.endswith(" 0") for each in studies)
    assert study() == f"{studies[-1][:-1]}1", "the same"


def test_pictures_that_change_during_a_search(clone: Project, tmp_path: Path) -> None:
    project = prepare(
        clone, train=f"open({str(tmp_path / 'shapes/more')!r}, 'a').write('.')\n{TRAIN}"
    )
    write_pictures(tmp_path / "shapes", NAMES, 2)
    project.set_params(dataset="folder", folder=str(tmp_path / "shapes"))
    output = project.run("make", "search", status=2)
    assert "trial 1 failed: the data have changed since the search began" in output


def test_three_failed_trials_in_a_row_end_a_search(clone: Project) -> None:
    clone.folder = clone.folder.rename(clone.folder.with_name("#1, é?"))
    prepare(clone, train="raise SystemExit('error: no luck today')\n")
    output = clone.run("make", "search", status=2)
    assert "trial 0 failed: no luck today: optimizer=" in output
    assert output.count("failed: no luck today") == 3
    assert "error: 3 trials in a row failed" in output
    assert "Traceback" not in output


def test_trials_whose_settings_do_not_fit_together_are_pruned(project: Project) -> None:
    project.install()
    space = "optimizers.sgd.nesterov: [false, true]\noptimizers.sgd.momentum: [0.0, 0.9]\n"
    project.set_params(optimizer="sgd", epochs=1)
    (project.folder / "extras/search/search.yaml").write_text(space)
    project.commit("a space")
    output = project.run("make", "search", "TRIALS=1")
    conflict = "pruned: optimizers.sgd: nesterov: true needs a momentum above 0: optimizers.sgd"
    assert conflict in output
    states = [trial.state for trial in trials_of(project)]
    assert states == [TrialState.PRUNED, TrialState.COMPLETE]


def test_settings_that_never_fit_together_end_a_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def conflict(*arguments: object) -> float:
        raise ConflictError("a conflict")

    monkeypatch.setattr(search, "fingerprint", lambda clone: "one study")
    monkeypatch.setattr(search, "run_trial", conflict)
    storage = search.open_storage(f"sqlite:///{tmp_path}/trials.db")
    params = read_settings(ROOT / "params.yaml", search.Params)
    clones: list[Any] = ["a clone"]
    with pytest.raises(UserError, match="30 trials in a row pruned"):
        search.Search({"epochs": [1, 2]}, params, storage, clones).optimize(40)
    assert capsys.readouterr().out.count("pruned: a conflict: epochs=") == 30


def test_each_mistake_has_its_message(clone: Project) -> None:
    clone.install()
    (clone.folder / "extras/search/search.yaml").write_text(
        "optimiser: [sgd]\n"
        "schedule: [constant, cosin]\n"
        "optimizers.adam.lr: {low: 0.1, high: 0.01}\n"
        "optimizers.sgd.lr: {low: 0.1, hihg: 0.2}\n"
        "models.mlp.dropout: {low: 0.0, high: 0.5, log: true}\n"
        "batch_size: 32\n"
        "loss: [mse, nll]\n"
    )
    output = clone.run("make", "search", status=2)
    assert [line.strip() for line in output.splitlines()[1:9]] == [
        "optimiser: unknown setting; did you mean optimizer?",
        "schedule: found cosin, expected one of constant, step, cosine, one_cycle;"
        " did you mean cosine?",
        "optimizers.adam.lr: found low 0.1, expected less than high 0.01",
        "optimizers.sgd.lr.high: missing",
        "optimizers.sgd.lr.hihg: unknown setting; did you mean high?",
        "models.mlp.dropout: found low 0.0, expected more than 0 for log: true",
        "batch_size: expected a list of values, or {low: number, high: number}",
        "loss: cannot be searched, because it changes what a validation loss means",
    ]
    clone.run("git", "checkout", "extras/search/search.yaml")
    output += clone.run("make", "search", "STORAGE=sqlite:////nowhere/trials.db", status=2)
    assert "error: the storage's database cannot be used: unable to open database file" in output
    (clone.folder.parent / f"{clone.folder.name} home/.gitconfig").unlink()
    output += clone.run("make", "search", status=2)
    assert "error: an experiment is a commit: set Git's user.name and user.email" in output
    output += clone.run("make", "search", "TRIALS=0", status=2)
    assert "error: TRIALS and WORKERS: expected positive integers" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("postgresql+psycopg://me:secret@127.0.0.1:1/trials", "connection failed"),
        ("postgresql+psycopg://me:a@secret@127.0.0.1/trials", "not a database URL"),
        ("postgresql+psycopg://me:secret/trials", "not a database URL"),
        ("me:secret@127.0.0.1/trials", "not a database URL"),
        ("nosql://me:secret@127.0.0.1/trials", "Can't load plugin"),
    ],
)
def test_no_message_shows_a_password(clone: Project, storage: str, reason: str) -> None:
    output = clone.run("python", "extras/search/search.py", "--storage", storage, status=1)
    assert reason in output
    assert "secret" not in output
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    "layout",
    [
        larger_repository,
        worktree,
        shallow_clone,
        submodule_with_hooks_and_pictures_under_dvc,
    ],
)
def test_in_other_places(
    quick_project: Project, tmp_path: Path, layout: Callable[[Project, Path], Project]
) -> None:
    """A search's experiment, whose validation loss is its seed, can be applied."""
    project = layout(quick_project, tmp_path)
    (project.folder / "extras/search/search.yaml").write_text("seed: {low: 100, high: 1000000}\n")
    project.run("git", "commit", "--quiet", "--message", "a space", "extras/search/search.yaml")
    changes = project.run("git", "status", "--porcelain")
    output = project.run("make", "search", "TRIALS=1")
    assert project.run("git", "status", "--porcelain") == changes
    assert experiments_of(project).keys() == {0}
    (seed,) = [int(line.split("=")[1]) for line in output.splitlines() if ": seed=" in line]
    project.run("sh", "-c", output.splitlines()[-1])
    assert project.read("metrics/train.json")["validation_loss"] == seed
    assert project.read("params.yaml")["seed"] == seed


def test_workers_share_the_gpus_that_the_user_has_chosen(project_on_gpus: Project) -> None:
    project = project_on_gpus
    (project.folder / "extras/search/search.yaml").write_text("seed: {low: 1, high: 1000000}\n")
    project.env |= {"CUDA_VISIBLE_DEVICES": "2,GPU-7", "WORKERS_MET": "2"}
    project.run("make", "search", "TRIALS=2", "WORKERS=2")
    assert recorded(project) == [f"['{gpu}', '{threads(2)}']" for gpu in ("2", "GPU-7")]


def test_pictures_that_a_trial_would_not_have_are_an_error(clone: Project) -> None:
    clone.install()
    write_pictures(clone.folder / "shapes", NAMES, 2)
    clone.set_params(dataset="folder", folder="shapes")
    output = clone.run("make", "search", status=2)
    assert "error: folder: shapes is tracked by neither Git nor DVC" in output
