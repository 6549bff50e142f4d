"""Scratch clones: one with the digits' pipeline already run, copied for each test that asks."""

from pathlib import Path

import pytest

from .project import SMALL, Project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives make and dvc; `make check` leaves it out."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.pipeline)


@pytest.fixture(scope="session")
def fresh_clone(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The working tree as somebody else finds it. Not to be changed by a test."""
    return Project.copy_of_working_tree(tmp_path_factory.mktemp("clones") / "a fresh clone")


@pytest.fixture(scope="session")
def digits_run(fresh_clone: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone set to the digits, run and committed. Not to be changed by a test."""
    project = fresh_clone.copy(tmp_path_factory.mktemp("clones") / "digits")
    project.set_params(**SMALL)
    project.dvc("repro")
    project.commit("the digits")
    return project


@pytest.fixture
def clone(fresh_clone: Project, tmp_path: Path) -> Project:
    """A fresh clone of one's own."""
    return fresh_clone.copy(tmp_path / "my clone")


@pytest.fixture
def project(digits_run: Project, tmp_path: Path) -> Project:
    """A clone of one's own in which the digits' pipeline has run."""
    return digits_run.copy(tmp_path / "my digits")
