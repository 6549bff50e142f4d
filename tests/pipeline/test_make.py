"""The two commands of the README, where nothing can be reached and where a mirror can."""

import shutil

from ..mirror import serve
from .project import ALL, Project, ran


def with_environment(project: Project) -> Project:
    """Give the clone this environment in place of an installation of minutes."""
    project.install()
    return project


def test_make_alone_lists_the_targets(clone: Project) -> None:
    output = clone.run("make")
    for target in ("env", "repro", "check", "test", "vote", "lock"):
        assert f"make {target} " in output


def test_without_any_source_the_digits_are_used_and_it_says_so(clone: Project) -> None:
    project = with_environment(clone)
    output = project.run("make", "repro")
    assert "Installing" not in output
    assert "No source of the raw data could be reached" in output
    assert "embedded digits instead" in output
    assert ran(output) == ["download", *ALL]
    assert project.read("params.yaml")["dataset"] == "digits"
    assert "digits" in project.dvc("params", "diff")
    assert project.read("metrics/test.json")["accuracy"] >= 0.9
    assert ran(project.run("make", "repro")) == []


def test_a_mirror_with_the_wrong_files_is_an_error_and_no_reason_for_the_digits(
    clone: Project,
) -> None:
    project = with_environment(clone)
    with serve({"train-images-idx3-ubyte.gz": b"something else"}) as mirror:
        output = project.run("make", "repro", status=2, MNIST_MIRROR=mirror.url("good"))
    assert "the MD5 of the file is wrong" in output
    assert "Traceback" not in output
    assert "digits instead" not in output
    assert project.read("params.yaml")["dataset"] == "mnist"


def test_make_repro_brings_back_a_deleted_data_folder(project: Project) -> None:
    with_environment(project)
    before = project.outs()
    shutil.rmtree(project.folder / "data")
    project.run("make", "repro")
    assert project.outs() == before
    assert project.run("git", "status", "--porcelain", "data") == ""
