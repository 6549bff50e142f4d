"""Other places for the project and its cache: monorepo, worktree, shallow clone, linked files."""

import hashlib
import json
import shutil
from copy import copy
from pathlib import Path

import pytest

from .project import ALL, BIN, Project, ran
from .test_folder import write_pictures
from .test_stale import wait_for_queue

TRAIN = """
import json, re, shutil
from pathlib import Path

seed = int(re.search("^seed: ([0-9]+)", Path("params.yaml").read_text(), re.M)[1])
shutil.copytree("kept/models", "models", dirs_exist_ok=True)
shutil.copy("kept/metrics/history.csv", "metrics")
Path("metrics/train.json").write_text(json.dumps({"validation_loss": seed}))
"""
EVALUATE = """
import shutil

for name in ("test.json", "classes.csv", "reliability.csv", "predictions.csv"):
    shutil.copy(f"kept/metrics/{name}", "metrics")
shutil.copytree("kept/pictures", "pictures", dirs_exist_ok=True)
"""


@pytest.fixture(scope="module")
def quick_project(digits_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The digits' run with stages that copy its results. Not to be changed by a test."""
    project = digits_run.copy(tmp_path_factory.mktemp("layouts") / "quick")
    (project.folder / ".venv").symlink_to(BIN.parent)
    for name in ("models", "metrics", "pictures"):
        shutil.copytree(project.folder / name, project.folder / "kept" / name)
        (project.folder / "kept" / name / ".gitignore").unlink()
    (project.folder / "stages/train.py").write_text(TRAIN)
    (project.folder / "stages/evaluate.py").write_text(EVALUATE)
    (project.folder / "search.yaml").write_text("seed: {low: 100, high: 1000000}\n")
    project.dvc("repro")
    project.commit("quick stages")
    return project


def run_and_compare(project: Project) -> None:
    assert "up to date" in project.dvc("status")
    project.dvc("exp", "run", "-S", "seed=1", "--name", "one")
    changes = json.loads(project.dvc("metrics", "diff", "--json"))
    assert changes["metrics/train.json"]["validation_loss"] == {"old": 0, "new": 1, "diff": 1}


def run_queue(project: Project) -> None:
    project.dvc("exp", "run", "--queue", "-S", "seed=2", "--name", "two")
    project.run("sh", "-c", "make queue >/dev/null 2>&1")  # the worker would hold a pipe open
    try:
        assert "Success" in wait_for_queue(project, 1)
    finally:
        project.dvc("queue", "stop", "--kill")


def search(project: Project) -> None:
    """A search's experiment, whose validation loss is its seed, can be applied."""
    output = project.run("make", "search", "TRIALS=1")
    (seed,) = [int(line.split("=")[1]) for line in output.splitlines() if ": seed=" in line]
    project.run("sh", "-c", output.splitlines()[-1])
    assert project.read("metrics/train.json")["validation_loss"] == seed
    assert project.read("params.yaml")["seed"] == seed


def vote(project: Project, *experiments: str) -> None:
    rows = project.run("make", "vote", f"EXPS={' '.join(experiments)}").splitlines()
    assert [row.split()[0] for row in rows] == [*experiments, "together"]


def report(project: Project, *experiments: str) -> None:
    project.run("make", "report")
    page = (project.folder / "reports/index.html").read_text("utf-8")
    assert 'class="problem"' not in page
    assert page.count('<figure class="plot') == 8
    for experiment in experiments:
        assert experiment in page


def experiments_of_head(project: Project) -> list[str]:
    _, head = json.loads(project.dvc("exp", "show", "--json"))
    assert head["rev"] == project.run("git", "rev-parse", "HEAD").strip()
    return [experiment["name"] for experiment in head["experiments"]]


def test_a_folder_of_a_larger_repository(quick_project: Project, tmp_path: Path) -> None:
    repository = Project(tmp_path / "repository")
    project = copy(repository)
    project.folder = repository.folder / "our team/digits"
    shutil.copytree(quick_project.folder, project.folder, symlinks=True)
    shutil.rmtree(project.folder / ".git")
    other = repository.folder / "other.txt"
    other.write_text("of another team\n")
    repository.run("git", "init", "--quiet", "--initial-branch=main")
    repository.commit("a folder per team")
    other.write_text("changed by another team\n")

    assert ran(project.run("make", "repro")) == []
    run_and_compare(project)
    run_queue(project)
    search(project)
    assert {"one", "two"} < set(experiments_of_head(project))
    vote(project, "HEAD", "one", "two", "workspace")
    code = "import runs; print(*runs.find_runs({}))"
    found = project.run("python", "-c", code, PYTHONPATH="tools").split()
    assert {"HEAD", "one", "two"} < set(found)
    report(project, "one", "two")
    assert other.read_text() == "changed by another team\n"


def test_a_worktree(quick_project: Project, tmp_path: Path) -> None:
    main = quick_project.copy(tmp_path / "main")
    project = Project(tmp_path / "worktree")
    main.run("git", "worktree", "add", "--quiet", "-b", "side", str(project.folder))
    (project.folder / ".venv").symlink_to(BIN.parent)
    (project.folder / "README.md").write_text("Another branch.\n")
    project.commit("another branch")
    cache = str(main.folder / ".dvc/cache")  # each worktree has its own, unless told otherwise
    project.dvc("cache", "dir", "--local", cache)
    project.dvc("checkout")
    run_and_compare(project)
    run_queue(project)
    search(project)
    assert {"one", "two"} < set(experiments_of_head(project))
    assert main.run("git", "status", "--porcelain") == ""


def test_a_shallow_clone(quick_project: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "shallow")
    url = quick_project.folder.as_uri()
    quick_project.run("git", "clone", "--quiet", "--depth=1", url, str(project.folder))
    (project.folder / ".venv").symlink_to(BIN.parent)
    project.dvc("cache", "dir", "--local", str(quick_project.folder / ".dvc/cache"))
    project.dvc("checkout")
    run_and_compare(project)
    search(project)
    assert len(experiments_of_head(project)) == 2
    output = project.run("make", "queue", status=2)
    assert "this clone is shallow, and DVC would lose the results of its queue" in output
    assert "'git fetch --unshallow' completes it" in output


def test_a_submodule_with_hooks_and_pictures_under_dvc(
    quick_project: Project, tmp_path: Path
) -> None:
    upstream = quick_project.copy(tmp_path / "upstream")
    write_pictures(upstream.folder / "digits", ["a", "b"], 10)
    upstream.dvc("add", "digits")
    upstream.set_params(dataset="folder", folder="digits")
    upstream.commit("pictures")
    team = Project(tmp_path / "team")
    team.folder.mkdir()
    team.run("git", "init", "--quiet")
    add = ("git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
    team.run(*add, str(upstream.folder), "project")
    project = copy(team)
    project.folder = team.folder / "project"
    (project.folder / ".venv").symlink_to(BIN.parent)
    project.dvc("cache", "dir", "--local", str(upstream.folder / ".dvc/cache"))

    hook = tmp_path / "hooks/pre-push"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    Path(project.env["GIT_CONFIG_GLOBAL"]).write_text(
        f'[core]\n\thooksPath = "{hook.parent}"\n[clone]\n\tdefaultRemoteName = upstream\n'
    )
    for role in ("AUTHOR", "COMMITTER"):
        project.env |= {f"GIT_{role}_NAME": "Reader", f"GIT_{role}_EMAIL": "reader@example.org"}
    search(project)
    assert len(experiments_of_head(project)) == 1


@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_linked_outs_are_replaced_and_the_cache_is_left_alone(project: Project, kind: str) -> None:
    """DVC links read-only files; a stage that wrote into one would change the cache."""
    project.dvc("config", "--local", "cache.type", kind)
    project.dvc("checkout", "--relink")
    model = project.folder / "models/model.safetensors"
    assert model.is_symlink() or model.stat().st_nlink == 2
    project.set_params(seed=1)
    project.stages(*ALL)
    for path in (project.folder / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file():
            digest = hashlib.md5(path.read_bytes()).hexdigest()
            assert digest == path.parent.name + path.name.removesuffix(".dir")
    assert not model.is_symlink()
    assert model.stat().st_nlink == 1
