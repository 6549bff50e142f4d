"""`git rm -r extras/NAME` is all that it takes to drop an extra."""

import re
import shutil

import pytest

from .project import ROOT, Project

EXTRAS = sorted(path.parent.name for path in ROOT.glob("extras/*/targets.mk"))

PACKAGES = "import env; print(env.packages('dev'))"


def targets_of(project: Project) -> set[str]:
    return set(re.findall(r"^make (\w+) ", project.run("make"), re.MULTILINE))


def pytest_in(project: Project, *arguments: str) -> None:
    project.run("python", "-m", "pytest", "-q", "--numprocesses=0", *arguments)


@pytest.mark.parametrize("extra", EXTRAS)
def test_one_is_deleted(clone: Project, extra: str) -> None:
    """Its targets go. That nothing else needs it, tests/test_extras.py shows."""
    mine = (clone.folder / "extras" / extra / "targets.mk").read_text()
    before = targets_of(clone)
    clone.run("git", "rm", "-r", "--quiet", f"extras/{extra}")
    assert before - targets_of(clone) == set(re.findall("^([a-z]+):.*## ", mine, re.MULTILINE))


def test_all_are_deleted_and_then_the_folder(clone: Project) -> None:
    clone.install()
    packages = clone.folder.glob("extras/*/pyproject.toml")
    declared = [str(path.relative_to(clone.folder)) for path in packages]
    clone.run("git", "rm", "-r", "--quiet", *(f"extras/{name}" for name in EXTRAS))
    assert {"help", "repro", "lint", "check", "lock"} < targets_of(clone)
    asked = clone.run("make", "--dry-run", "env", "lock")
    installed = clone.run("python", "-c", PACKAGES, cwd=str(clone.folder / "tools"))
    for file in declared:
        assert file not in asked + installed
    pytest_in(clone, "--collect-only")

    clone.run("git", "rm", "-r", "--quiet", "extras")
    if (ROOT / ".mypy_cache").exists():  # mypy checks again only what is not as it was there
        shutil.copytree(ROOT / ".mypy_cache", clone.folder / ".mypy_cache")
    clone.run("python", "-m", "ruff", "check")
    clone.run("python", "-m", "mypy")
    pytest_in(clone, "--collect-only")
    pytest_in(clone, "tests/test_docs.py", "tests/test_requirements.py")
