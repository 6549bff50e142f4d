"""dvc itself on the digits: what people use this project as."""

import json
import os
import shlex
from pathlib import Path

import pytest

from mnist_pipeline.common.tensors import load_tensors

from .project import BIN, Project, ran
from .test_stale import wait_for_queue


def diff(project: Project, kind: str) -> dict:
    return json.loads(project.dvc(kind, "diff", "--json"))


def test_a_second_repro_runs_nothing(project: Project) -> None:
    output = project.dvc("repro")
    assert ran(output) == []
    assert "up to date" in output


def test_an_experiment_with_another_optimizer(project: Project) -> None:
    output = project.dvc("exp", "run", "-S", "optimizer=rmsprop")
    assert ran(output) == ["train", "evaluate"]
    assert diff(project, "params") == {
        "params.yaml": {"optimizer": {"old": "adam", "new": "rmsprop"}}
    }
    changes = diff(project, "metrics")
    assert changes["metrics/test.json"]["loss"]["diff"] != 0


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("seed=1", ["train", "evaluate"]),
        ("validation_fraction=0.2", ["preprocess", "train", "evaluate"]),
        ("optimizers.sgd.lr=0.5", []),
        ("num_workers=2", []),
    ],
)
def test_a_setting_reruns_the_stages_that_use_it(
    project: Project, setting: str, expected: list[str]
) -> None:
    assert ran(project.dvc("exp", "run", "-S", setting)) == expected


@pytest.mark.parametrize("setting", ["optimizer=rmsprob", "optimiser=adam", "epochs=many"])
def test_nothing_is_written_under_a_wrong_setting(project: Project, setting: str) -> None:
    before = project.outs()
    output = project.dvc("exp", "run", "-S", setting, status=None)
    assert "error" in output.lower()
    assert "Traceback" not in output
    assert project.outs().items() <= before.items()  # dvc removes a stage's outs before it runs


def test_every_model_setting_loss_optimizer_and_schedule_trains(project: Project) -> None:
    for settings in (
        ["optimizer=sgd", "optimizers.sgd.lr=0.1", "optimizers.sgd.momentum=0.9",
         "optimizers.sgd.nesterov=true", "schedule=one_cycle"],
        ["optimizer=adamw", "schedule=cosine", "loss=bce", "normalization=standard"],
        ["optimizer=rmsprop", "schedule=step", "loss=mse", "keep=best"],
        ["models.mlp.hidden_sizes=[500]", "models.mlp.activation=gelu", "models.mlp.dropout=0.2",
         "loss=nll", "shuffle=false"],
        ["model=cnn", "models.cnn.pooling=average", "models.cnn.head=[32]",
         "models.cnn.dropout=0.1"],
    ):  # fmt: skip
        overrides = [argument for setting in settings for argument in ("-S", setting)]
        project.run("git", "checkout", "--quiet", ".")
        assert ran(project.dvc("exp", "run", *overrides, "train")) == ["train"]
        assert project.read("metrics/train.json")["validation_accuracy"] > 0.6, settings


def test_a_recipe(project: Project) -> None:
    recipe = shlex.split((project.folder / "recipes/quick").read_text())
    steps = ["-S", "epochs=3", "-S", "augmentation=affine", "-S", "label_smoothing=0.1"]
    assert ran(project.dvc("exp", "run", *recipe, *steps)) == ["train", "evaluate"]
    assert project.read("metrics/test.json")["accuracy"] > 0.9
    assert len((project.folder / "metrics/history.csv").read_text().splitlines()) == 4


def test_git_tracks_the_small_metrics_only(project: Project) -> None:
    project.dvc("exp", "run", "-S", "seed=1")
    changed = project.run("git", "status", "--porcelain", "metrics", "models", "pictures").split()
    assert {name for name in changed if "/" in name} <= {
        f"metrics/{name}"
        for name in ("test.json", "train.json", "history.csv", "classes.csv", "reliability.csv")
    }


def test_the_model_is_an_artifact(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    project.run("git", "tag", "-a", "digits-classifier@v1.0.0", "-m", "a release")
    project.dvc("artifacts", "get", ".", "digits-classifier", "--out", str(out))
    assert out.read_bytes() == (project.folder / "models/model.safetensors").read_bytes()


def test_plots_draw_without_options(project: Project) -> None:
    data = json.loads(project.dvc("plots", "show", "--json", "--out", "plots"))
    assert set(data) == {"data"}  # and no errors
    pictures = {name for name, (plot, *_) in data["data"].items() if plot["type"] == "image"}
    assert pictures == {f"pictures/{name}.png" for name in ("mistakes", "samples", "first_layer")}
    assert len(data["data"]) == len(pictures) + 8
    for name in data["data"].keys() - pictures:
        (plot,) = data["data"][name]
        assert plot["content"]["data"]["values"], name
        assert "<DVC_METRIC" not in json.dumps(plot["content"]), name


def test_six_experiments_on_three_workers(project: Project) -> None:
    """A grid over what preprocess reads too: it runs once, as one experiment of it came first."""
    (project.folder / ".venv").symlink_to(BIN.parent)
    split = ("-S", "validation_fraction=0.2")
    project.dvc("exp", "run", "--temp", *split, "preprocess")
    grid = ("-S", "optimizer=sgd,adam", "-S", "seed=1,2,3", "-S", "epochs=1")
    project.dvc("exp", "run", "--queue", *split, *grid, "train")
    # Into no pipe: the workers would hold it open. They stop when the queue is empty.
    project.run("sh", "-c", "make queue WORKERS=3 >/dev/null 2>&1")
    try:
        tasks = wait_for_queue(project, 6)
    finally:
        project.dvc("queue", "stop", "--kill")
    assert tasks.count("Success") == 6, tasks

    logs = [path.read_text() for path in (project.folder / ".dvc/tmp/exps/run").rglob("*.out")]
    assert sum(ran(log).count("train") for log in logs) == 6
    assert sum(ran(log).count("preprocess") for log in logs) == 0

    (_, branch) = json.loads(project.dvc("exp", "show", "--json"))
    losses = {}
    for experiment in branch["experiments"]:
        data = experiment["revs"][0]["data"]
        settings = data["params"]["params.yaml"]["data"]
        if settings["epochs"] == 1:
            metrics = data["metrics"]["metrics/train.json"]["data"]
            losses[settings["optimizer"], settings["seed"]] = metrics["validation_loss"]
            md5 = data["outs"]["models/model.safetensors"]["hash"]
            model = project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
            threads = load_tensors(model)[1]["environment"]["threads"]
            assert threads == max(1, (os.cpu_count() or 1) // 3)
    assert len(losses) == len(set(losses.values())) == 6
    assert project.run("git", "status", "--porcelain") == ""
