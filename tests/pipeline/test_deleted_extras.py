"""`git rm -r extras/NAME` is all that it takes to drop an extra."""

import re
import shutil
from pathlib import Path

import pytest

from .project import BIN, ROOT, Project

EXTRAS = sorted(path.parent.name for path in ROOT.glob("extras/*/targets.mk"))

# What knows of files and packages; that of the library does not change.
KNOWING = "tests/test_docs.py tests/test_extras.py tests/test_imports.py tests/test_requirements.py"

# Minutes of tests of the library alone, which a test holds to name no extra.
UNTOUCHED = [f"--ignore=tests/{name}" for name in ("handwriting", "model", "runtime", "training")]


def delete(project: Project, *extras: str) -> set[str]:
    """Delete extras; the targets that `make` listed for them."""
    (project.folder / ".venv").symlink_to(BIN.parent)
    before = targets_of(project)
    project.run("git", "rm", "-r", "--quiet", *(f"extras/{name}" for name in extras))
    after = targets_of(project)
    assert after < before
    assert {"help", "repro", "lint", "check", "lock"} < after
    return before - after


def keep_types(project: Project) -> None:
    """Let mypy check again only what is not as it was when it checked this project."""
    if (ROOT / ".mypy_cache").exists():
        shutil.copytree(ROOT / ".mypy_cache", project.folder / ".mypy_cache")


def targets_of(project: Project) -> set[str]:
    return set(re.findall(r"^make (\w+) ", project.run("make"), re.MULTILINE))


def pytest_in(project: Project, *arguments: str) -> str:
    return project.run("python", "-m", "pytest", "-q", "--numprocesses=0", *arguments)


@pytest.mark.parametrize("extra", EXTRAS)
def test_one_is_deleted(clone: Project, extra: str) -> None:
    mine = (clone.folder / "extras" / extra / "targets.mk").read_text()
    gone = delete(clone, extra)
    assert gone == set(re.findall("^([a-z]+):.*## ", mine, re.MULTILINE))
    clone.run("ruff", "check")
    clone.run("ruff", "format", "--check")
    pytest_in(clone, "--collect-only")
    pytest_in(clone, *KNOWING.split())


def test_all_are_deleted(clone: Project) -> None:
    packages = clone.folder.glob("extras/*/pyproject.toml")
    declared = {str(path.relative_to(clone.folder)) for path in packages}
    delete(clone, *EXTRAS)
    keep_types(clone)
    clone.run("make", "lint")
    pytest_in(clone, "--collect-only")
    pytest_in(clone, "-m", "not pipeline", *UNTOUCHED)
    asked = clone.run("make", "--dry-run", "env", "lock")
    installed = clone.run("python", "-c", PACKAGES, cwd=str(clone.folder / "tools"))
    for file in declared:
        assert file not in asked + installed


PACKAGES = "import env; print(env.packages('dev'))"


def test_without_the_folder_too(clone: Project) -> None:
    (clone.folder / ".venv").symlink_to(BIN.parent)
    clone.run("git", "rm", "-r", "--quiet", "extras")
    assert not Path(clone.folder / "extras").exists()
    clone.run("make")
    keep_types(clone)
    clone.run("mypy")
    pytest_in(clone, "--collect-only")
