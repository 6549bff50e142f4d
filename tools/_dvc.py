"""Files of experiments, commits and the workspace, read through DVC."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from _tool import ROOT

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.experiments.utils import exp_refs

from mnist_pipeline.common.errors import UserError

Content = TypeVar("Content")


def commit_of(repo: Repo, revision: str) -> str:
    """The commit of HEAD, or another revision as it is.

    To DVC, HEAD is the baseline of an experiment that runs, or that was killed at any time before.
    """
    return repo.scm.get_rev() if revision == "HEAD" else revision


def expand(pattern: str) -> list[str]:
    """List the experiments of HEAD whose names match a shell pattern; anything else is a revision.

    The names of experiments, branches and tags have no *, ? or [. Raises UserError: the pattern
    matches experiments of other commits only.
    """
    if not set(pattern) & set("*?["):
        return [pattern]
    try:
        with Repo(str(ROOT)) as repo:
            head = repo.scm.get_rev()
            found = [each for each in exp_refs(repo.scm) if fnmatch(each.name, pattern)]
    except DvcException as error:
        raise UserError(str(error)) from None
    names = sorted(each.name for each in found if each.baseline_sha == head)
    if found and not names:
        raise UserError(
            f"{pattern}: found {len(found)} experiments of other commits, expected some of HEAD;"
            " 'dvc exp list --all-commits' lists them: check out their commit, or name each"
        )
    return names or [pattern]


def read_each(
    revisions: Sequence[str], path: str, read: Callable[[Path], Content]
) -> list[Content]:
    """Read the same file of several experiments, commits or the workspace.

    Raises UserError, which names each revision that does not exist or whose file is in no cache or
    remote.
    """
    contents, problems = [], []
    for revision in revisions:
        try:
            contents.append(read_one(revision, path, read))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n       ".join(problems))
    return contents


def read_one(revision: str, path: str, read: Callable[[Path], Content]) -> Content:
    """Read a file of an experiment, commit or the workspace, from DVC's cache or a remote.

    Raises UserError, which names the revision.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        try:
            # Unlike dvc.api, Repo knows that the project may be a sub-folder of its repository.
            with Repo(str(ROOT)) as repo, repo.switch(commit_of(repo, revision)):
                repo.dvcfs.get_file(f"/{path}", str(copy))
        except DvcException as error:
            raise UserError(f"{revision}: {error}; 'dvc exp show' lists experiments") from None
        except FileNotFoundError:
            raise UserError(
                f"{revision}: its {path} is neither in the cache nor in a remote; run it here, or"
                " 'dvc push' where it was run"
            ) from None
        try:
            return read(copy)
        except UserError as error:
            raise UserError(f"{revision}: {str(error).replace(str(copy), path)}") from None
