"""Other places for the project and its cache: monorepo, worktree, shallow clone, linked files."""

import hashlib
import json
from pathlib import Path

import pytest

from .layouts import larger_repository, shallow_clone, worktree
from .project import ALL, Project, ran
from .test_stale import wait_for_queue


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


def experiments_of_head(project: Project) -> set[str]:
    _, head = json.loads(project.dvc("exp", "show", "--json"))
    assert head["rev"] == project.run("git", "rev-parse", "HEAD").strip()
    return {experiment["name"] for experiment in head["experiments"]}


def test_a_folder_of_a_larger_repository(quick_project: Project, tmp_path: Path) -> None:
    project = larger_repository(quick_project, tmp_path)
    assert ran(project.run("make", "repro")) == []
    run_and_compare(project)
    run_queue(project)
    assert experiments_of_head(project) == {"one", "two"}
    vote(project, "HEAD", "one", "two", "workspace")
    report(project, "one", "two")
    assert (project.folder / "../../other.txt").read_text() == "changed by another team\n"


def test_a_worktree(quick_project: Project, tmp_path: Path) -> None:
    project = worktree(quick_project, tmp_path)
    run_and_compare(project)
    run_queue(project)
    assert experiments_of_head(project) == {"one", "two"}
    assert Project(tmp_path / "main").run("git", "status", "--porcelain") == ""


def test_a_shallow_clone(quick_project: Project, tmp_path: Path) -> None:
    project = shallow_clone(quick_project, tmp_path)
    run_and_compare(project)
    assert experiments_of_head(project) == {"one"}
    output = project.run("make", "queue", status=2)
    assert "this clone is shallow, and DVC would lose the results of its queue" in output
    assert "'git fetch --unshallow' completes it" in output


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
