"""`make search`: Optuna's trials as DVC's experiments, interrupted, continued and shared."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import optuna
from optuna.trial import TrialState

from .project import BIN, Project

SPACE = """
optimizer: [sgd, adam]
optimizers.sgd.lr: {low: 0.01, high: 0.1, log: true}
optimizers.adam.lr: {low: 1e-4, high: 1e-2, log: true}
models.mlp.hidden_sizes: [[32], [64, 32]]
epochs: {low: 1, high: 2}
"""
STORE = ".dvc/tmp/search/trials.db"


def trials_of(project: Project) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{project.folder / STORE}"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(storage=storage, study_name=name).trials


def start(project: Project, log: Path, *arguments: str) -> subprocess.Popen:
    with log.open("w") as output:
        return subprocess.Popen(
            ["make", "search", *arguments],
            cwd=project.folder,
            env=project.env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for_the_second_trial(project: Project, search: subprocess.Popen, log: Path) -> None:
    """Until trial 0 has finished and trial 1 has begun."""
    deadline = time.monotonic() + 200
    while search.poll() is None and time.monotonic() < deadline:
        if "trial 0:" in log.read_text():
            states = [trial.state for trial in trials_of(project)]
            if states == [TrialState.COMPLETE, TrialState.RUNNING]:
                return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_a_search_killed_in_a_trial_and_continued_by_two_workers(
    project: Project, tmp_path: Path
) -> None:
    (project.folder / ".venv").symlink_to(BIN.parent)
    (project.folder / "search.yaml").write_text(SPACE)
    project.commit("a space")
    log = tmp_path / "log"
    search = start(project, log, "TRIALS=4")
    wait_for_the_second_trial(project, search, log)
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()

    output = project.run("make", "search", "TRIALS=4", "WORKERS=2")
    assert ": 1 of 4 trials finished" in output
    trials = {t.number: t for t in trials_of(project) if t.state == TrialState.COMPLETE}
    assert len(trials) == 4
    assert 1 not in trials, "it was killed"
    best = min(trials.values(), key=lambda trial: trial.value or 0)
    assert f"-{best.number} && dvc repro" in output.splitlines()[-1]

    _, branch = json.loads(project.dvc("exp", "show", "--json"))
    found = {int(each["name"].split("-")[-1]): each["revs"][0] for each in branch["experiments"]}
    assert found.keys() == trials.keys()
    for number, trial in trials.items():
        data = found[number]["data"]
        settings = data["params"]["params.yaml"]["data"]
        metrics = data["metrics"]
        assert metrics["metrics/train.json"]["data"]["validation_loss"] == trial.value
        assert "data" not in metrics.get("metrics/test.json", {}), "the test split chooses nothing"
        optimizer, epochs = trial.params["optimizer"], trial.params["epochs"]
        assert (settings["optimizer"], settings["epochs"]) == (optimizer, epochs)
        lr = settings["optimizers"][optimizer]["lr"]
        assert trial.params == {
            "optimizer": optimizer,
            f"optimizers.{optimizer}.lr": lr,
            "models.mlp.hidden_sizes": json.dumps(settings["models"]["mlp"]["hidden_sizes"]),
            "epochs": epochs,
        }
    assert project.run("git", "status", "--porcelain") == ""
    assert [path.name for path in (project.folder / STORE).parent.iterdir()] == ["trials.db"]

    project.run("sh", "-c", output.splitlines()[-1])  # the line that takes the best one over
    assert project.read("metrics/train.json")["validation_loss"] == best.value
    assert 0 < project.read("metrics/test.json")["accuracy"] <= 1


def test_mistakes_are_answered_with_a_sentence_each(clone: Project) -> None:
    (clone.folder / ".venv").symlink_to(BIN.parent)
    (clone.folder / "search.yaml").write_text(
        "optimiser: [sgd]\n"
        "schedule: [constant, cosin]\n"
        "optimizers.adam.lr: {low: 0.1, high: 0.01}\n"
        "batch_size: 32\n"
        "loss: [mse, nll]\n"
    )
    output = clone.run("make", "search", status=2)
    assert [line.strip() for line in output.splitlines()[1:6]] == [
        "optimiser: unknown setting; did you mean optimizer?",
        "schedule: found cosin, expected one of constant, step, cosine, one_cycle;"
        " did you mean cosine?",
        "optimizers.adam.lr: found low 0.1, expected less than high 0.01",
        "batch_size: expected a list of values, or {low: number, high: number}",
        "loss: can't be searched, as it changes what the validation loss is",
    ]
    clone.run("git", "checkout", "search.yaml")
    output += clone.run("make", "search", "STORAGE=sqlite:////nowhere/trials.db", status=2)
    assert "error: the storage's database can't be used: unable to open database file" in output
    assert "Traceback" not in output
