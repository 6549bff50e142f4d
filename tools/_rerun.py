"""A temporary clone of the project at a commit, in which its pipeline runs from the raw files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from _tool import ROOT

from _dvc import commit_of
from dvc.config import Config
from dvc.config_schema import RelPath
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError, resolve_rev

from mnist_pipeline.common.errors import UserError


def look_up(revision: str) -> tuple[str, Path]:
    """Return the commit of a revision, and this project's cache. Raises UserError: not a commit."""
    try:
        with Repo(str(ROOT)) as repo:
            commit = resolve_rev(repo.scm, commit_of(repo, revision))
            cache = Path(repo.cache.local.path)
    except (DvcException, SCMError) as error:
        raise UserError(f"{error}; 'dvc exp show' lists experiments") from None
    changed = git(ROOT, "status", "--porcelain", "--untracked-files=no")
    if changed and commit == git(ROOT, "rev-parse", "HEAD"):
        print(f"Left out: {len(changed.splitlines())} files with uncommitted changes")
    return commit, cache


def clone(commit: str, folder: Path, cache: Path) -> Path:
    """Clone the project at a commit, with a cache of its own; return its folder.

    Its inputs under `dvc add` come from `cache`, whose bytes DVC checks. Raises UserError.
    """
    repository = folder / "clone"
    git(folder, "init", "--quiet", "--template=", str(repository))
    git(repository, "config", "core.hooksPath", "none")
    toplevel = git(ROOT, "rev-parse", "--show-toplevel")
    git(repository, "fetch", "--quiet", "--depth=1", toplevel, commit)
    git(repository, "checkout", "--quiet", "FETCH_HEAD")
    # The project may be a sub-folder of its repository.
    project = repository / git(ROOT, "rev-parse", "--show-prefix")
    if not (project / ".dvc").is_dir():
        raise UserError(f"{commit[:7]}: found no folder .dvc, expected a commit of this project")
    inputs = git(project, "ls-files", "-z", "*.dvc").split("\0")[:-1]
    # DVC writes ASCII only, which an absolute path may not be.
    with Config(str(project / ".dvc")).edit("local") as config:
        config["core"] = {"autostage": True}  # without advice on what to add to Git
        config["cache"] = {"dir": RelPath(folder / "cache")}
        if inputs:
            url = str(cache.parents[1])
            if not url.isascii():
                url = RelPath(folder / "inputs")
                Path(url).symlink_to(cache.parents[1])
            config["remote"] = {"project": {"url": url, "verify": True}}
    if inputs:
        run_dvc(project, folder, "pull", "--remote=project", *inputs)
    return project


def run_pipeline(project: Path, folder: Path) -> None:
    """Run every stage, which writes a dvc.lock from nothing. Raises UserError: one has failed."""
    (project / "dvc.lock").unlink()
    run_dvc(project, folder, "repro", "--no-run-cache")


def run_dvc(project: Path, folder: Path, *arguments: str) -> None:
    """Run a dvc command whose stages use this Python. Raises UserError: it failed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project,
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(folder / "site"),
        },
        start_new_session=True,  # so that its stages end with it
    )
    try:
        if process.wait():
            raise UserError(f"dvc {arguments[0]} failed in the clone, as said above")
    finally:
        if process.returncode is None:
            if sys.platform == "win32":
                process.terminate()
            else:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def git(folder: Path, *arguments: str) -> str:
    """Run Git; return its output. Raises UserError: it failed, with its message."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(done.stderr.strip())
    return done.stdout.rstrip("\n")
