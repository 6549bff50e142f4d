"""`make verify`: a commit's pipeline runs again elsewhere, and what is forged is found."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from .project import Project, ran

VERIFY = ("python", "tools/verify.py")
MODEL = "models/model.safetensors"


def everything(project: Project) -> dict[str, object]:
    """What no tool may change: files with their bytes, Git's refs, and the state of its files."""
    files = {
        path.relative_to(project.folder).as_posix(): path.read_bytes()
        for path in project.folder.rglob("*")
        if path.is_file() and not {".git", "__pycache__"} & {*path.parts}
    }
    ours = {name: files[name] for name in files if not name.startswith((".dvc/tmp/", ".venv/"))}
    return ours | {
        "refs": project.run("git", "for-each-ref"),
        "head": project.run("git", "symbolic-ref", "HEAD"),
        "config": project.run("git", "config", "--local", "--list"),
        "status": project.run("git", "status", "--porcelain"),
        "queue": sorted(name for name in files if name.startswith(".dvc/tmp/exps/")),
    }


def test_an_experiment_is_verified_and_a_clone_without_cache(
    quick_project: Project, tmp_path: Path
) -> None:
    project = quick_project.copy(tmp_path / "quické")
    (project.folder / "pictures.zip").write_bytes(b"an input that is not in Git")
    project.dvc("add", "pictures.zip")
    project.commit("an input under dvc add")
    project.dvc("exp", "run", "--set-param", "seed=7", "--name", "seed-7")
    before = everything(project)
    temporary = tmp_path / "tmpé"
    temporary.mkdir()
    hook = {"GIT_DIR": str(project.folder / ".git"), "GIT_INDEX_FILE": ".git/index"}
    project.env |= hook | {"TMPDIR": str(temporary)}
    output = project.run("make", "verify", EXP="seed-7")
    for name in hook:
        del project.env[name]
    assert ran(output) == ["download", "preprocess", "train", "evaluate"]
    assert "Compared 15 outs of seed-7 (" in output
    assert "1 file added" in output
    assert output.endswith("\nidentical\n")
    assert everything(project) == before

    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other/clone")
    quick_project.run("git", "clone", "--quiet", ".", str(other.folder))
    other.set_params(seed=8)
    output = other.run(*VERIFY, TMPDIR=str(tmp_path))
    assert output.startswith("Left out: 1 files with uncommitted changes\n")
    assert "and 10 copies with dvc.lock" in output, "of five files, in Git and the workspace"
    assert output.endswith("\nidentical\n")
    assert not [*tmp_path.glob("verify-*"), *temporary.iterdir()]


def test_each_forgery_is_found(quick_project: Project, tmp_path: Path) -> None:
    project = quick_project.copy(tmp_path / "quick")
    outs = {
        out["path"]: out["md5"]
        for stage in project.read("dvc.lock")["stages"].values()
        for out in stage["outs"]
    }
    replace(project, "metrics/test.json", r'("errors": )\d+', r"\g<1>3")
    replace(project, "metrics/classes.csv", r"\n0,", "\n00,")
    replace(project, "metrics/history.csv", r"\n1,", "\n01,")
    lock = (project.folder / "dvc.lock").read_text()
    assert lock.count("seed: 0") == 1
    replace(project, "dvc.lock", "seed: 0", "seed: 5")
    code = project.read("dvc.lock")["stages"]["preprocess"]["deps"][-1]
    assert code["path"] == "stages/preprocess.py"
    replace(project, "dvc.lock", code["md5"], "e" * 32)
    replace(project, "dvc.lock", outs["metrics/pictures/samples.png"], "f" * 32)
    baseline = "refs/exps/exec/EXEC_BASELINE"  # an experiment that was killed leaves it to DVC
    project.run("git", "update-ref", baseline, "HEAD")
    project.commit("better numbers")
    model = project.folder / ".dvc/cache/files/md5" / outs[MODEL][:2] / outs[MODEL][2:]
    model.chmod(0o644)
    model.write_bytes(b"another model")
    replace(project, "metrics/predictions.csv", r"\n0,", "\n1,")

    output = project.run(*VERIFY, status=1)
    errors = quick_project.read("metrics/test.json")["errors"]
    found = [line.strip() for line in output.partition("\ndifferent:\n")[2].splitlines()]
    for problem in (
        "outs that differ from those of the run, first the metrics: metrics/pictures/samples.png",
        "metrics/test.json in Git is not what dvc.lock names",
        "metrics/classes.csv in Git is not what dvc.lock names",
        "metrics/history.csv in Git is not what dvc.lock names",
        "metrics/predictions.csv in the workspace is not what dvc.lock names",
        f"{MODEL} in the cache ({model}) is not what dvc.lock names",
        f"metrics/test.json: errors: 3 committed, {errors} in the run",
        "dvc.lock: train: params seed: found 5, expected 0",
    ):
        assert problem in found
    assert any(line.startswith("dvc.lock: preprocess: deps stages/preprocess.py") for line in found)


def replace(project: Project, name: str, pattern: str, new: str) -> None:
    path = project.folder / name
    before = path.read_text("utf-8")
    path.unlink()  # it may be a link into the cache
    path.write_text(re.sub(pattern, new, before), "utf-8")
    assert path.read_text("utf-8") != before


def test_what_cannot_be_compared_and_ctrl_c(clone: Project, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    clone.env["TMPDIR"] = str(temporary)
    output = clone.run(*VERIFY, "nowhere", status=2)
    assert output == "error: unknown Git revision 'nowhere'; 'dvc exp show' lists experiments\n"
    output = clone.run(sys.executable, VERIFY[1], status=2, PATH="")
    assert output == "error: git: No such file or directory\n"
    output = clone.run(*VERIFY, status=2)  # a project that can reach no source
    assert output.endswith("error: dvc repro failed in the clone, as said above\n")
    verify = subprocess.Popen(
        VERIFY, cwd=clone.folder, env=clone.env, stderr=subprocess.PIPE, start_new_session=True
    )
    while not [*temporary.glob("verify-*/clone/.git")]:
        assert verify.poll() is None
        time.sleep(0.01)
    os.killpg(verify.pid, signal.SIGINT)
    assert verify.communicate()[1] == b"interrupted\n"
    assert verify.returncode == 130
    replace(clone, "dvc.lock", "md5: [0-9a-f]+", "md5: 1")
    clone.commit("a damaged lock")
    output = clone.run(*VERIFY, status=2)
    assert output.startswith("error: HEAD: found a damaged dvc.lock, expected ")
    clone.run("git", "rm", "--quiet", "dvc.lock")
    clone.commit("nothing to compare with")
    output = clone.run(*VERIFY, status=2)
    assert output.startswith("error: HEAD: found no dvc.lock, expected ")
    assert not [*temporary.iterdir()]
