"""Tools that use trained models: on pictures, as ONNX, several of them voting."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from mnist_pipeline.handwriting.glyphs import read_glyph
from mnist_pipeline.model.files import load_model
from mnist_pipeline.model.inference import inference_loader, predict_logits
from mnist_pipeline.model.losses import LOSSES
from mnist_pipeline.splits.batches import load_split

from .project import BIN, Project

PREDICTIONS = "metrics/predictions.csv"

# One process, as imports take seconds; without docstrings, as PYTHONOPTIMIZE=2 may be set.
HELP = """
import pathlib, sys
sys.modules |= dict.fromkeys(("jinja2", "onnxruntime", "vl_convert"))  # not installed
for script in map(pathlib.Path, sys.argv[1:]):
    sys.argv, sys.path[0] = [str(script), "--help"], str(script.parent)
    code = compile(script.read_text("utf-8"), script, "exec", optimize=2)
    try:
        exec(code, {"__name__": "__main__", "__file__": str(script)})
    except SystemExit as end:
        assert not end.code, end.code
"""


def test_every_tool_shows_its_help_and_does_nothing_else(clone: Project, tmp_path: Path) -> None:
    extras = clone.folder.glob("extras/*/[!_]*.py")
    started = [path for path in extras if '__name__ == "__main__"' in path.read_text("utf-8")]
    scripts = [*clone.folder.glob("tools/[!_]*.py"), *started]
    (tmp_path / "help.py").write_text(HELP)
    output = clone.run("python", str(tmp_path / "help.py"), *map(str, scripts))
    usages = [line.split()[1] for line in output.splitlines() if line.startswith("usage: ")]
    assert usages == [path.name for path in scripts]
    assert output.count("show this help message and exit") == len(scripts)
    assert clone.run("git", "status", "--short") == ""


def test_a_tool_without_its_packages_says_what_installs_them(project: Project) -> None:
    (project.folder / "tools/jinja2.py").write_text("import jinja3\n")
    python = str(BIN / "python")  # a fork is no script of its own
    output = project.run(python, "tools/report.py", "--base=nowhere", status=1)
    assert output == (
        "error: jinja3: no such package; 'make env' installs the packages of all tools and extras\n"
    )
    (project.folder / "tools/jinja2.py").write_text("import mnist_pipeline.nowhere\n")
    output = project.run(python, "tools/report.py", "--base=nowhere", status=1)
    assert output.endswith("ModuleNotFoundError: No module named 'mnist_pipeline.nowhere'\n")


def test_every_picture_is_answered_and_the_others_named(project: Project, tmp_path: Path) -> None:
    image, label = load_split(project.folder / "data/processed", "test")[0]
    digit, good = str(label.item()), tmp_path / "a digit.png"
    Image.fromarray(255 - image[0].numpy()).resize((90, 90)).save(good)
    (tmp_path / "text.png").write_text("a digit")
    command = ["python", "tools/predict.py", str(good), str(tmp_path / "text.png"), "nowhere.png"]

    lines = project.run(*command, str(good), status=1).splitlines()
    answers = [line for line in lines if not line.startswith("error: ")]
    assert len(lines) == 4
    assert answers[0] == answers[1]
    assert answers[0].startswith(f"{good}: {digit} (")
    assert "error: nowhere.png: No such file or directory; expected a picture" in lines

    command_of_no_model = ["python", "tools/predict.py", "a.png", "--model", "nowhere"]
    assert project.run(*command_of_no_model, status=1) == "error: nowhere: no such file\n"

    first, *broken = map(json.loads, project.run(*command, "--json", status=1).splitlines())
    assert (first["class"], list(first["probabilities"])) == (digit, list("0123456789"))
    assert first["confidence"] == first["probabilities"][digit] > 0.5
    assert [list(answer) for answer in broken] == [["file", "error"]] * 2

    shell = f"python tools/predict.py --show - < '{good}'"
    answer, *drawing = project.run("sh", "-c", shell).splitlines()
    assert answer.startswith(f"-: {digit} (")
    assert len(drawing) == 28
    assert [bool(line) for line in drawing] == (read_glyph(good).max(1) > 51).tolist()


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [("tools/predict.py a.png --json", ""), ("stages/evaluate.py", "1")],
)
def test_a_closed_pipe_is_no_error(project: Project, command: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["python", *command.split()],
        cwd=project.folder,
        env=project.env | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


BROKEN = """
from mnist_pipeline.common.errors import run_script

def main():
    raise BrokenPipeError(32, "Broken pipe")

run_script(main)
"""


def test_a_broken_pipe_to_another_process_is_an_error(clone: Project) -> None:
    output = clone.run("python", "-c", BROKEN, status=1, PYTHONPATH="src")
    assert output.strip() == "error: writing: Broken pipe"


def test_digits_side_by_side_are_answered_one_by_one(project: Project, tmp_path: Path) -> None:
    images, labels = load_split(project.folder / "data/processed", "test")[:2]
    page = np.full((160, 400), 255, np.uint8)
    for image, left in zip(images[:, 0].numpy(), (20, 230), strict=True):
        large = Image.fromarray(255 - image).resize((140, 140), Image.Resampling.BICUBIC)
        page[10:150, left : left + 140] = np.asarray(large)
    Image.fromarray(page).save(tmp_path / "two.png")
    command = ["python", "tools/predict.py", str(tmp_path / "two.png")]
    title, *answers = project.run(*command).splitlines()
    assert title == f"{tmp_path / 'two.png'}: 2 digits, from left to right:"
    assert [answer[:4] for answer in answers] == [f"  {label} " for label in labels.tolist()]
    rows = [json.loads(line) for line in project.run(*command, "--json", "--show").splitlines()]
    assert [(row["digit"], row["digits"]) for row in rows] == [(1, 2), (2, 2)]
    assert np.shape([row["image"] for row in rows]) == (2, 28, 28)


def test_the_exported_model_answers_as_pytorch_does(project: Project) -> None:
    output = project.run("python", "tools/export.py")
    assert output.startswith("Wrote models/model.onnx: 599 of 599 predictions equal PyTorch's")
    assert output.count("\n") == 1
    content = (project.folder / "models/model.onnx").read_bytes()
    assert b"site-packages" not in content, "no path of this machine"
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["classes"] == json.dumps(list("0123456789"))
    for count in (1, 3):
        (found,) = session.run(None, {"images": np.zeros((count, 1, 28, 28), np.uint8)})
        assert found.shape == (count, 10)
        assert np.allclose(found.sum(1), 1)
    assert project.run("git", "status", "--porcelain") == ""
    assert "up to date" in project.dvc("status")


# Several comparisons in an interpreter that imports everything once.
COMPARE_EACH = """
import contextlib, pwd, sys

pwd.getpwuid = {}.__getitem__  # a user without a name in the system

from compare import main
from mnist_pipeline.common.errors import run_script

for sides in sys.argv[1:]:
    sys.argv[1:] = sides.split()
    with contextlib.suppress(SystemExit):
        run_script(main)
"""


def test_experiments_vote_and_are_compared(project: Project) -> None:
    project.install()
    correct = [read_correct(project)]
    for settings in (["seed=1"], ["seed=2", "epochs=1"]):
        changes = [f"--set-param={setting}" for setting in settings]
        project.dvc("exp", "run", *changes, "--name", settings[0].replace("=", "-"))
        correct.append(read_correct(project))
    vote(project, correct[1].mean())
    compare_models(project, correct[0], correct[2])
    compare_seeds(project, correct[1], correct[2])
    compare_what_cannot_be_compared(project)
    vote_of_other_classes(project)
    vote_of_other_commits(project)


def read_correct(project: Project) -> pd.Series:
    """Which test images the model in the workspace classifies correctly."""
    table = pd.read_csv(project.folder / PREDICTIONS)
    return table["actual"] == table["predicted"]


def vote(project: Project, accuracy: float) -> None:
    output = project.run("make", "vote", "EXPS=HEAD seed-1")
    rows = [line.split() for line in output.splitlines()]
    assert [row[0] for row in rows] == ["HEAD", "seed-1", "together"]
    assert rows[1][1] == f"{accuracy:.2%}"
    errors = [int(row[-2]) for row in rows]
    for (_, percent, _, _, low, _, high, *_), count in zip(rows, errors, strict=True):
        bounds = [float(text.strip("%,)")) for text in (low, percent, high)]
        assert bounds == sorted(bounds)
        assert bounds[1] == pytest.approx(100 * (1 - count / 599), abs=0.01)

    total = np.zeros((599, 10))
    test_set = load_split(project.folder / "data/processed", "test")
    for rev in ("HEAD", "seed-1"):
        project.dvc("get", ".", "models/model.safetensors", "--rev", rev, "--out", "a", "--force")
        network, spec = load_model(project.folder / "a")
        logits, labels = predict_logits(network, inference_loader(test_set), torch.device("cpu"))
        total += LOSSES[spec.loss]().probabilities(logits).numpy()
    assert errors[2] == (total.argmax(1) != labels.numpy()).sum()

    wrong = ("nowhere-*", "seed-1", "never")
    output = project.run("python", "tools/compare.py", "--vote", *wrong, status=1)
    assert [line.strip() for line in output.splitlines()] == [
        "error: nowhere-*: unknown Git revision 'nowhere-*'; 'dvc exp show' lists experiments",
        "never: unknown Git revision 'never'; 'dvc exp show' lists experiments",
    ]


def compare_models(project: Project, head: pd.Series, workspace: pd.Series) -> None:
    """HEAD, which has trained for more epochs, and the workspace."""
    only_head, only_workspace = int((head & ~workspace).sum()), int((workspace & ~head).sum())
    p = binomtest(only_head, only_head + only_workspace).pvalue
    errors = [599 - head.sum(), 599 - workspace.sum()]

    first, second, only, found, _, *table = project.run("make", "compare", "CLASSES=1").splitlines()
    for line, name, correct in ((first, "HEAD", head), (second, "workspace", workspace)):
        assert line.split()[:2] == [name, f"{correct.mean():.2%}"]
        assert line.endswith(f" {599 - correct.sum()} errors")
    assert only == f"Only HEAD is right on {only_head} images, only workspace on {only_workspace}"
    better = f"HEAD is better: {errors[1] - errors[0]} fewer errors, p = {p:.2g}"
    assert found == f"{better} (exact McNemar test, threshold 0.05)"
    rows = np.array([line.split() for line in table[2:]], int)
    assert rows[:, 0].tolist() == list(range(10))
    assert rows[:, 1:].sum(0).tolist() == [599, *errors, only_head, only_workspace]

    output = project.run("make", "compare", "EXPS=seed-2 workspace")
    assert output.endswith("seed-2 and workspace predict the same class for every image\n")


def compare_seeds(project: Project, *correct: pd.Series) -> None:
    """Two seeds and copies of them under other names; make leaves the patterns as they are."""
    (project.folder / "seed-note.txt").touch()
    refs = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/seed-*")
    for ref in refs.splitlines():
        project.run("git", "update-ref", ref.replace("seed", "copy"), ref)
    first, second = (side.mean() for side in correct)
    mean, standard_error = (first + second) / 2, abs(first - second) / 2
    accuracy = f"{mean:.3%} ± {standard_error:.3%} (mean of 2 runs and its standard error)"
    errors = 599 * (1 - mean)

    output = project.run("make", "compare", "EXPS=seed-* copy-[12]", "CLASSES=1")
    *sides, found, limit, _, _ = output.splitlines()[:6]
    for name, line in zip(("seed-*", "copy-[12]"), sides, strict=True):
        assert line == f"{name:9}  {accuracy}, {errors:.1f} errors"
    assert (
        found == "No difference that 2 and 2 runs can show, p = 1 (Welch's t-test, threshold 0.05)"
    )
    assert limit == "This speaks of other seeds on these 599 test images, not of other images"
    rows = np.array([line.split() for line in output.splitlines()[6:]], float)
    assert rows[:, 1:].sum(0) == pytest.approx([599, errors, errors])

    votes = project.run("make", "vote", "EXPS=seed-*").splitlines()
    assert [line.split()[0] for line in votes] == ["seed-1", "seed-2", "together"]


def compare_what_cannot_be_compared(project: Project) -> None:
    predictions = project.folder / PREDICTIONS
    lines = predictions.read_text("utf-8").splitlines(keepends=True)
    predictions.write_text("".join(lines[:-1]), "utf-8")
    problems = {
        "HEAD": 'found HEAD; expected two to compare: EXPS="A B"',
        "HEAD workspace": "HEAD and workspace: tested on different images (599 and 598), expected"
        " the same; 'dvc params diff HEAD workspace' shows how their settings differ",
        "HEAD seed-*": "HEAD and seed-*: found 1 and 2 runs, expected one on each side or several"
        " on each",
        "seed-* *-1": "seed-* and *-1: found seed-1 on both sides, expected different runs",
        "*-1 *-2": "*-1 and *-2: all runs of a side have the same number of errors, expected runs"
        " with different seeds",
    }
    project.env |= dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "")
    output = project.run("python", "-c", COMPARE_EACH, *problems, PYTHONPATH="tools")
    assert output == "".join(f"error: {problem}\n" for problem in problems.values())


def vote_of_other_classes(project: Project) -> None:
    path = project.folder / "data/processed/dataset.json"
    path.write_text(path.read_text().replace('"9"', '"z"'))
    output = project.run("python", "tools/compare.py", "--vote", "HEAD", "seed-1", status=1)
    for name, line in zip(("HEAD", "seed-1"), output.splitlines(), strict=True):
        assert line.removeprefix("error: ").lstrip().startswith(f"{name}: data/processed: classes")
    path.write_text(path.read_text().replace('"z"', '"9"'))


def vote_of_other_commits(project: Project) -> None:
    experiment = project.run(
        "git", "for-each-ref", "--format=%(objectname)", "refs/exps/*/*/seed-1"
    )
    project.commit("another commit")
    command = ("python", "tools/compare.py", "--vote", "seed-*")
    assert project.run(*command, status=1) == (
        "error: seed-*: found 2 experiments of other commits, expected some of HEAD;"
        " 'dvc exp list --all-commits' lists them: check out their commit, or name each\n"
    )
    head = project.run("git", "rev-parse", "HEAD").strip()
    ref = f"refs/exps/{head[:2]}/{head[2:]}/seed-3"
    project.run("git", "update-ref", ref, experiment.strip())
    votes = project.run(*command, "seed-2").splitlines()
    assert [line.split()[0] for line in votes] == ["seed-3", "seed-2", "together"]


def test_a_model_that_is_in_no_cache_is_named(project: Project) -> None:
    shutil.rmtree(project.folder / ".dvc/cache")
    output = project.run("python", "tools/compare.py", "--vote", "HEAD", status=1)
    assert output == (
        "error: HEAD: its models/model.safetensors is neither in the cache nor in a remote;"
        " run it here, or 'dvc push' where it was run\n"
    )
