"""dvc itself on the digits: what people use this project as."""

import json
import shlex
from pathlib import Path

from .project import Project, ran
from .test_stale import wait_for_queue


def diff(project: Project, kind: str) -> dict:
    return json.loads(project.dvc(kind, "diff", "--json"))


def test_a_recipe_is_an_experiment(project: Project) -> None:
    recipe = shlex.split((project.folder / "recipes/quick").read_text())
    steps = ["-S", "epochs=3", "-S", "augmentation=affine", "-S", "label_smoothing=0.1"]
    assert ran(project.dvc("exp", "run", *recipe, *steps)) == ["train", "evaluate"]
    assert project.read("metrics/test.json")["accuracy"] > 0.9
    assert len((project.folder / "metrics/history.csv").read_text().splitlines()) == 4

    changes = diff(project, "params")["params.yaml"]
    assert changes["optimizer"] == {"old": "adam", "new": "adamw"}
    assert {"seed", "epochs", "optimizers.sgd.lr"}.isdisjoint(changes)
    assert diff(project, "metrics")["metrics/test.json"]["loss"]["diff"] != 0
    # Git tracks the small metrics only.
    changed = project.run("git", "status", "--porcelain", "metrics", "models").split()
    assert {name for name in changed if "/" in name} <= {
        f"metrics/{name}"
        for name in ("test.json", "train.json", "history.csv", "classes.csv", "reliability.csv")
    }


def test_nothing_is_written_under_a_wrong_setting(project: Project) -> None:
    before = project.outs()
    for setting in ("optimizer=rmsprob", "optimiser=adam", "epochs=many"):
        output = project.dvc("exp", "run", "-S", setting, status=None)
        assert "error" in output.lower()
        assert "Traceback" not in output
        assert project.outs().items() <= before.items()  # dvc removes outs before a stage runs
        project.run("git", "checkout", "--quiet", "params.yaml")


def test_a_released_model_needs_no_clone(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    project.run("git", "tag", "-a", "v1.0.0", "-m", "a release")
    path = "models/model.safetensors"
    project.dvc("get", ".", path, "--rev", "v1.0.0", "--out", str(out))
    assert out.read_bytes() == (project.folder / path).read_bytes()


def test_plots_draw_without_options(project: Project) -> None:
    data = json.loads(project.dvc("plots", "show", "--json", "--out", "plots"))
    assert set(data) == {"data"}  # and no errors
    pictures = {name for name, (plot, *_) in data["data"].items() if plot["type"] == "image"}
    assert pictures == {
        f"metrics/pictures/{name}.png" for name in ("mistakes", "samples", "first_layer")
    }
    assert len(data["data"]) == len(pictures) + 8
    for name in data["data"].keys() - pictures:
        (plot,) = data["data"][name]
        assert plot["content"]["data"]["values"], name
        assert "<DVC_METRIC" not in json.dumps(plot["content"]), name


def test_two_experiments_on_two_workers(project: Project) -> None:
    """A grid over what preprocess reads too: it runs once, as one experiment of it came first."""
    project.install()
    split = ("-S", "validation_fraction=0.2")
    project.dvc("exp", "run", "--temp", *split, "preprocess")
    grid = ("-S", "seed=1,2", "-S", "epochs=1")
    project.dvc("exp", "run", "--queue", *split, *grid, "train")
    # Into no pipe: the workers would hold it open. They stop when the queue is empty.
    project.run("sh", "-c", "make queue WORKERS=2 >/dev/null 2>&1")
    try:
        tasks = wait_for_queue(project, 2)
    finally:
        project.dvc("queue", "stop", "--kill")
    assert tasks.count("Success") == 2, tasks

    logs = [path.read_text() for path in (project.folder / ".dvc/tmp/exps/run").rglob("*.out")]
    assert sum(ran(log).count("train") for log in logs) == 2
    assert sum(ran(log).count("preprocess") for log in logs) == 0

    (_, branch) = json.loads(project.dvc("exp", "show", "--json"))
    losses = {}
    for experiment in branch["experiments"]:
        data = experiment["revs"][0]["data"]
        settings = data["params"]["params.yaml"]["data"]
        if settings["epochs"] == 1:
            metrics = data["metrics"]["metrics/train.json"]["data"]
            losses[settings["seed"]] = metrics["validation_loss"]
    assert len(losses) == len(set(losses.values())) == 2
    assert project.run("git", "status", "--porcelain") == ""
