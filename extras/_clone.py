"""Clones of the project, in which experiments run beside the workspace."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from _tool import ROOT

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.settings import ConflictError


class Clone:
    """A clone of the project that shares its cache; its experiments are brought into the project.

    `dvc exp run --temp` would need no clone, but it detaches the HEAD of the workspace for a
    moment, and a kill in that moment leaves it so.
    """

    def __init__(self, folder: Path, base: str, share: Mapping[str, str]) -> None:
        """Open the clone in `folder`, or make it; a kill leaves all of it or none.

        `base` is the commit whose files it starts from. `share` are environment variables of its
        experiments.
        """
        self.base, self.share = base, share
        # The project may be a sub-folder of its repository.
        prefix = call(ROOT, "git", "rev-parse", "--show-prefix")
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            self.folder = partial / prefix
            self._make(partial)
            partial.rename(folder)
        self.folder = folder / prefix
        for lock in (*folder.glob(".git/**/*.lock"), *self.folder.glob(".dvc/tmp/*lock*")):
            lock.unlink()  # of a run that was killed
        self.restore()
        self.dvc("checkout", "--allow-missing")  # pictures under `dvc add`

    def _make(self, folder: Path) -> None:
        repository = call(ROOT, "git", "rev-parse", "--show-toplevel")
        options = ("--quiet", "--shared", "--origin=origin", "--config=core.hooksPath=none")
        call(ROOT, "git", "clone", *options, repository, str(folder))
        # A shallow clone shares no commits.
        call(self.folder, "git", "fetch", "--quiet", "origin", self.base)
        local = ROOT / ".dvc/config.local"
        if local.exists():  # the type of the cache, for example
            shutil.copy(local, self.folder / ".dvc")
        for name in ("user.name", "user.email"):  # they may be set in this repository only
            if value := call(ROOT, "git", "config", "--get", "--default", "", name):
                call(self.folder, "git", "config", name, value)
        cache = call(ROOT, sys.executable, "-m", "dvc", "cache", "dir")
        # DVC writes ASCII only, which an absolute path may not be.
        cache = cache if cache.isascii() else os.path.relpath(cache, self.folder)
        self.dvc("cache", "dir", "--local", cache)

    def dvc(self, *arguments: str) -> str:
        """Run a dvc command in the clone."""
        return call(self.folder, sys.executable, "-m", "dvc", *arguments, **self.share)

    def restore(self) -> None:
        """Undo what the last experiment changed; data that fits is kept."""
        call(self.folder, "git", "read-tree", "--reset", "-u", self.base)

    def push(self, experiment: str) -> None:
        """Bring an experiment into the project."""
        ref = self.ref(experiment)
        call(self.folder, "git", "push", "--quiet", "--force", "origin", f"{ref}:{ref}")

    def ref(self, experiment: str) -> str:
        """Git's name of an experiment that this clone has run; empty before its end."""
        refs = f"refs/exps/*/*/{experiment}"
        return call(self.folder, "git", "for-each-ref", "--format=%(refname)", refs)


def call(folder: Path, *command: str, **variables: str) -> str:
    """Run a command, with more environment variables, and return its output.

    Raises UserError: it failed, with its error message; ConflictError: DVC says that a stage did so
    with the exit code of conflicting settings.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        output = (done.stdout + done.stderr).splitlines()
        lines = [line.strip() for line in output if line.strip()] or ["it printed nothing"]
        errors = [line for line in lines if line.lower().startswith(("error: ", "fatal: "))]
        conflict = any(line.endswith(f"exited with {ConflictError.exit_code}") for line in lines)
        kind = ConflictError if conflict else UserError
        raise kind(errors[0].partition(": ")[2] if errors else lines[-1])
    return done.stdout.strip()
