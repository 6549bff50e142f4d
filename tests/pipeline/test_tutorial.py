"""docs/tutorial.md: its code is in the files it names, its commands run, its figures are true."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

from dvc.utils.hydra import apply_overrides

from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.training.settings import TrainSettings

from .project import ROOT, Project

PAGE = (ROOT / "docs/tutorial.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_code_is_quoted_whole_from_its_files() -> None:
    quotes = [text for language, text in BLOCKS if language == "python"]
    assert len(quotes) == 7
    for quote in quotes:
        place, _, code = quote.partition("\n")
        source = (ROOT / place.removeprefix("# ")).read_text("utf-8")
        assert code in source, f"{place}: not as it is quoted"
        assert not re.search(r"^\s*\.\.\.$", code, re.MULTILINE), "left out"


def test_the_figures_of_the_default_are_the_committed_ones() -> None:
    """As the stages, `make compare` and tables of experiments show them."""
    train, test = (
        json.loads((ROOT / f"metrics/{name}.json").read_text("utf-8")) for name in ("train", "test")
    )
    accuracy, errors = f"{test['accuracy']:.2%}", str(test["errors"])
    epoch = (
        f"train loss {train['train_loss']:.4f}, accuracy {train['train_accuracy']:.2%};"
        f" validation loss {train['validation_loss']:.4f}, accuracy"
        f" {train['validation_accuracy']:.2%}"
    )
    text = "".join(
        page.read_text("utf-8") for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    )
    for pattern, expected in {
        r"Epoch \[5/5\]: (train loss 0.*)": (epoch,),
        r"Accuracy of the model on the 10000 test images: (.*)": (accuracy,),
        r"HEAD +([\d.]+%) .*, ([\d,]+) errors": (accuracy, errors),
        r"  main .* (0\.\d+) +(\d+)": (str(test["accuracy"]), errors),
        r"\| the default.*? \| ([\d.]+) % \| ([\d,]+) \|.*": (accuracy.strip("%"), errors),
        r".*the same (\d+) errors\.": (errors,),
    }.items():
        found = re.findall(f"^{pattern}$", text, re.MULTILINE)
        found = [each if isinstance(each, tuple) else (each,) for each in found]
        assert set(found) == {expected}, pattern


def test_the_calibration_of_the_default_is_the_committed_one() -> None:
    test = json.loads((ROOT / "metrics/test.json").read_text())
    row = f"main {test['accuracy']} {test['expected_calibration_error']:.5}"
    assert row in " ".join(PAGE.split())


def test_the_defaults_are_the_tutorials_experiment() -> None:
    params = read_settings(ROOT / "params.yaml", TrainSettings)
    assert params.block("model") == {"hidden_sizes": [512], "activation": "relu", "dropout": 0.0}
    assert params.block("optimizer")["lr"] == 0.01
    assert (params.epochs, params.batch_size, params.loss) == (5, 64, "cross_entropy")
    assert (params.optimizer, params.normalization) == ("sgd", "symmetric")


def test_its_commands_run(quick_project: Project, tmp_path: Path) -> None:
    """Experiments that are compared are run; of the others, DVC and we read the settings."""
    project = quick_project.copy(tmp_path / "quick")
    commands = "".join(text for language, text in BLOCKS if language == "sh")
    commands = commands.replace("source .venv/bin/activate\n", "")  # whose dvc would be no fork
    compared = {*" ".join(re.findall('^make compare EXPS="(.*)"', commands, re.M)).split()} - {
        "HEAD"
    }
    run = "|".join(map(re.escape, sorted(compared)))
    commands = re.sub(f"(dvc exp run .*--name (?!(?:{run}) ))", r": \1", commands)
    output = project.run("bash", "-euxc", commands)
    assert set(project.dvc("exp", "list", "--name-only").split()) == compared
    assert "Data and pipelines are up to date." in output

    params = project.folder / "params.yaml"
    before = params.read_text()
    experiments = re.findall("^[+] (?:: )?dvc exp run (.*)", output, re.M)
    assert len(experiments) == 16
    for options in map(shlex.split, experiments):
        apply_overrides(params, [value for name, value in pairwise(options) if name == "-S"])
        assert params.read_text() != before
        read_settings(params, TrainSettings)
        params.write_text(before)
