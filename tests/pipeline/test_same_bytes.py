"""The same params, code and data give the same bytes, whatever else differs."""

from pathlib import Path

from .project import ALL, BIN, Project, ran


def test_forced_again_with_workers_and_another_log(project: Project) -> None:
    before = project.outs(), (project.folder / "dvc.lock").read_bytes()
    project.set_params(num_workers=2, log_every=3)
    assert ran(project.dvc("repro", "--force")) == ALL
    assert (project.outs(), (project.folder / "dvc.lock").read_bytes()) == before


def test_by_hand_from_anywhere(project: Project) -> None:
    before = project.outs()
    assert "exit code" not in project.stages(*ALL, cwd="/")
    assert project.outs() == before


def test_with_workers_that_are_not_forked(project: Project, tmp_path: Path) -> None:
    """As on macOS: a worker imports the script again."""
    project.set_params(epochs=1)
    project.stages("train")
    before = project.outs()
    project.set_params(num_workers=2)
    (tmp_path / "sitecustomize.py").write_text(
        "import multiprocessing; multiprocessing.set_start_method('spawn', force=True)"
    )
    python = str(BIN / "python")  # a fork has imported multiprocessing already
    output = project.run(python, "stages/train.py", PYTHONPATH=str(tmp_path))
    assert project.outs() == before
    assert output.count("Training on") == output.count("Epoch [1/1]: train loss") == 1


def test_in_a_temporary_copy(project: Project) -> None:
    before = (project.folder / "dvc.lock").read_bytes()
    options = ("--temp", "--force", "--single-item", "--name", "again")
    assert ran(project.dvc("exp", "run", *options, "train")) == ["train"]
    ref = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").strip()
    assert project.run("git", "show", f"{ref}:dvc.lock").encode() == before


def test_elsewhere_with_an_empty_cache(
    digits_run: Project, project: Project, tmp_path: Path
) -> None:
    """In a folder with spaces and other letters, below another repository, without a home."""
    (tmp_path / "outer").mkdir()
    outer = Project(tmp_path / "outer")
    outer.run("git", "init", "--quiet")
    elsewhere = Project(tmp_path / "outer/père & 手写 'digits'")
    outer.run("git", "clone", "--quiet", str(project.folder), str(elsewhere.folder))
    elsewhere.run("git", "remote", "remove", "origin")
    (elsewhere.folder / "dvc.lock").unlink()
    del elsewhere.env["HOME"]
    assert ran(elsewhere.dvc("repro")) == ALL
    assert elsewhere.outs() == digits_run.outs()
    assert elsewhere.run("git", "status", "--porcelain") == ""
