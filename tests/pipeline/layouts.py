"""Other places for the project: a folder of a larger repository, worktree, clone, submodule."""

import shutil
from copy import copy
from pathlib import Path

from .project import Project
from .test_folder import write_pictures

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
shutil.copytree("kept/metrics/pictures", "metrics/pictures", dirs_exist_ok=True)
"""


def make_quick(project: Project) -> None:
    """Replace the stages of the digits' run by some that copy its results."""
    project.install()
    for name in ("models", "metrics"):
        shutil.copytree(project.folder / name, project.folder / "kept" / name)
        for ignored in (project.folder / "kept" / name).rglob(".gitignore"):
            ignored.unlink()
    (project.folder / "stages/train.py").write_text(TRAIN)
    (project.folder / "stages/evaluate.py").write_text(EVALUATE)
    project.dvc("repro")
    project.commit("quick stages")


def larger_repository(quick_project: Project, tmp_path: Path) -> Project:
    """The project in a folder of a repository, in which another team has changed a file."""
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
    return project


def worktree(quick_project: Project, tmp_path: Path) -> Project:
    """A worktree on a branch of its own; that of main is in the folder `main`."""
    main = quick_project.copy(tmp_path / "main")
    project = Project(tmp_path / "worktree")
    main.run("git", "worktree", "add", "--quiet", "-b", "side", str(project.folder))
    project.install()
    (project.folder / "README.md").write_text("Another branch.\n")
    project.commit("another branch")
    cache = str(main.folder / ".dvc/cache")  # each worktree has its own, unless told otherwise
    project.dvc("cache", "dir", "--local", cache)
    project.dvc("checkout")
    return project


def shallow_clone(quick_project: Project, tmp_path: Path) -> Project:
    project = Project(tmp_path / "shallow")
    url = quick_project.folder.as_uri()
    quick_project.run("git", "clone", "--quiet", "--depth=1", url, str(project.folder))
    project.install()
    project.dvc("cache", "dir", "--local", str(quick_project.folder / ".dvc/cache"))
    project.dvc("checkout")
    return project


def submodule_with_hooks_and_pictures_under_dvc(quick_project: Project, tmp_path: Path) -> Project:
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
    project.install()
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
    return project
