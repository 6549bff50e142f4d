"""The two commands of the README, where nothing can be reached and where a mirror can."""

import re
import shutil

import pytest

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


def test_what_a_user_sets_is_in_no_command_that_make_runs(clone: Project) -> None:
    makefiles = [clone.folder / "Makefile", *clone.folder.glob("extras/*/targets.mk")]
    text = "".join(path.read_text() for path in makefiles)
    names = set(re.findall(r"([A-Z]+)=", clone.run("make")) + re.findall(r"\$\$\{?([A-Z]+)", text))
    assert names > {"BASE", "CLASSES", "EXPS", "UPGRADE", "WORKERS"}
    targets = re.findall(r"^make (\w+) ", clone.run("make"), re.MULTILINE)
    given = [f"{name}=injected" for name in names]
    commands = clone.run("make", "--dry-run", *targets, *given)
    assert "compare.py --vote" in commands
    assert "injected" not in commands


@pytest.mark.parametrize(
    ("target", "name"),
    [("compare", "EXPS"), ("queue", "WORKERS"), ("report", "BASE"), ("verify", "EXP")],
)
def test_what_a_user_sets_is_never_run(clone: Project, target: str, name: str) -> None:
    project = with_environment(clone)
    value = "x'; touch injected; 'y`touch injected`$(touch injected)\"; touch injected; \""
    project.run("make", target, status=None, **{name: value})
    assert not (project.folder / "injected").exists()


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


@pytest.mark.parametrize("replaced", ["changes of params.yaml", "model of another data set"])
def test_without_any_source_the_digits_replace_nothing(clone: Project, replaced: str) -> None:
    project = with_environment(clone)
    if "params" in replaced:
        project.set_params(epochs=7)
    else:
        (project.folder / "models/model.safetensors").write_bytes(b"a night's work")
    before = project.outs() | {"params.yaml": project.read("params.yaml")}
    output = project.run("make", "repro", status=2)
    error = next(line for line in output.splitlines() if "would replace" in line)
    assert error.startswith("error: no source of the raw data could be reached")
    assert error.endswith("; if they may: make digits")
    assert replaced in error
    assert ran(output) == ["download"]
    assert project.outs() | {"params.yaml": project.read("params.yaml")} == before


def test_a_mirror_with_the_wrong_files_is_an_error_and_no_reason_for_the_digits(
    clone: Project,
) -> None:
    project = with_environment(clone)
    with serve({"train-images-idx3-ubyte.gz": b"something else"}) as mirror:
        project.set_params(mirrors=[mirror.url("good")])
        output = project.run(
            "make", "repro", status=2, MNIST_MIRROR=f"file://{project.env['HOME']}"
        )
    assert "no file has its MD5, packed or unpacked; found " in output, "a folder that lacks them"
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
