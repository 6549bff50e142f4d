"""Tables and figures of the pages, against the results that they come from."""

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extras.benchmarks import ladder, recipes, results, runs, votes
from tests.conftest import ROOT

README = " ".join(recipes.README.read_text("utf-8").split())


@pytest.mark.parametrize(
    ("page", "name", "table"),
    [
        (recipes.README, "recipes", lambda rows: recipes.table(recipes.shown_rows(rows))),
        (recipes.ALL, "recipes", lambda rows: recipes.table(recipes.all_rows(rows))),
        (ladder.PAGE, "ladder", ladder.table),
        (votes.PAGE, "votes", votes.table),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_is_that_of_the_results(
    page: Path, name: str, table: Callable[[dict[str, runs.Row]], str]
) -> None:
    _, written, _ = runs.read_table(page, name)
    assert written == table(results.read()), f"python extras/benchmarks/{name}.py writes it anew"


def test_the_figures_beside_the_tables_are_those_of_the_results() -> None:
    rows = next(rows for each in results.read().values() if (rows := ladder.rows_of(each)))
    accuracies = {step: [run["accuracy"] for run in rows[step]["seeds"].values()] for step in rows}
    errors = {step: recipes.errors(statistics.mean(accuracies[step])) for step in rows}
    text = " ".join(ladder.PAGE.read_text("utf-8").split())
    assert f"makes about {round(errors['tutorial'], -1)} errors on the 10,000 test images" in text
    assert f"`recipes/best` {errors['best']}." in text
    for recipe in ("quick", "best"):
        _, table, _ = runs.read_table(recipes.README, "recipes")
        (accuracy,) = runs.found(rf"^\| `{recipe}`: .*? \| ([\d.]+)", table)
        (shown,) = runs.found(rf"recipes/{recipe}\)` \*\*([\d.]+) %\*\*", README)
        assert abs(float(shown) - float(accuracy)) < 0.051


@pytest.mark.parametrize("recipe", ["good", "best"])
def test_the_ladder_leads_to_the_recipes(recipe: str) -> None:
    assert {*ladder.settings(recipe)} - {*runs.read_recipe(recipe)} == {
        "threads=1",
        "models.cnn.batch_norm=true",  # the default
    }
    assert {*runs.read_recipe(recipe)} <= {*ladder.settings(recipe)} | {"optimizer=sgd"}


def test_images_that_a_step_gains_and_loses() -> None:
    actual = list("000111")
    before = pd.DataFrame({"actual": actual, "predicted": list("001011")})
    after = pd.DataFrame({"actual": actual, "predicted": list("010111")})
    assert ladder.gained_and_lost(before, after) == {"gained": 2, "lost": 1}
    row = {"accuracy": 0.0, "validation": None, "seconds": 1.0}
    seeds = {"0": {**row, "gained": 2, "lost": 1}, "1": {**row, "gained": 5, "lost": 0}}
    assert "|  | 0.00 | 4 | 0 | +3.0 ± 2.0 | 1 s |" in ladder.table_row("best", {"seeds": seeds})
    assert ladder.paired("momentum", 12345) == {}, "of experiments that are not here"
    assert ladder.picture({"good": {"seeds": seeds}}).size == (1600, 168)


def test_a_step_of_other_code_or_jobs_is_trained_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    row = ladder.origin("tutorial", jobs=1) | {"seeds": {"0": {}}}
    here = results.kind(results.machine())
    found: list[int] = []

    def train(missing: list[runs.Run], jobs: int) -> list[tuple[runs.Run, str]]:
        found.append(len(missing))
        return []

    monkeypatch.setattr(ladder, "train", train)
    for change in ({}, {"jobs": 2}, {"code": "another"}):
        stored = {here: {"ladder": {"rows": {"tutorial": row | change}}}}
        monkeypatch.setattr(ladder, "read", lambda stored=stored: stored)
        ladder.measure(["tutorial"], 1, jobs=1)
    assert found == [0, 1, 1]


def test_code_of_votes() -> None:
    code = votes.code_of("HEAD")
    assert {"requirements.lock", "stages/train.py"} < {*code}
    assert not [name for name in code if name.startswith("data/")]


def test_errors_of_votes_and_their_standard_error() -> None:
    """Of single models, it is that of the mean; no vote has a model twice."""
    generator = np.random.default_rng(0)
    probabilities, labels = generator.random((9, 50, 2)), generator.integers(0, 2, 50)
    errors = [int(np.sum(each.argmax(1) != labels)) for each in probabilities]
    mean, error = votes.jackknife(votes.left_out(probabilities, labels, (0, 1, 0)))
    assert mean == pytest.approx(statistics.mean(errors[3:6]), abs=1e-3)
    assert error == pytest.approx(statistics.stdev(errors[3:6]) / 3**0.5, abs=1e-3)
    mixed = votes.members((2, 2, 1), seeds=3)
    assert mixed.shape == (27, 5)
    assert all(len({*vote}) == 5 for vote in mixed.tolist())
    assert {tuple(np.bincount(vote // 3)) for vote in mixed} == {(2, 2, 1)}


def test_a_row_of_other_code_or_settings_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = {"runs": 2, "accuracy": 99.0, "standard_error": 0.01, "seconds": 3.0, "threads": 1,
           "precision": "float32", "date": "2026-11-29"}  # fmt: skip
    row |= {"settings": recipes.settings("quick"), "code": recipes.code(runs.read_recipe("quick"))}

    def shown() -> str:
        return recipes.recipe_row("quick", "AMD EPYC, AVX2, 2 cores", row)

    assert shown() == (
        "| `quick`: one epoch | 99.00 ± 0.01 % (2 seeds) | 100 | 3 s"
        " | AMD EPYC, AVX2, 1 thread, float32; 2026-11-29 |"
    )
    for name in ("params.yaml", "dvc.yaml", "requirements.lock", "recipes", "src", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(recipes, "ROOT", tmp_path)
    assert "earlier" not in shown()
    for name, change in (("params.yaml", ("relu        # as", "gelu        # as")),
                         ("requirements.lock", ("==", "== "))):  # fmt: skip
        before = (tmp_path / name).read_text("utf-8")
        (tmp_path / name).unlink()
        (tmp_path / name).write_text(before.replace(*change), "utf-8")
        assert shown().endswith("; 2026-11-29, earlier code |")
        (tmp_path / name).write_text(before, "utf-8")
        assert "earlier" not in shown()
    row["settings"] = "another"
    assert shown().startswith("| `quick`, earlier settings |")


def test_the_speed_on_the_pages_is_that_of_the_results() -> None:
    name, loops = section("loops")
    assert f"takes {loops['844 steps, project']:.1f} s in one thread of an {name}" in README
    assert round(loops["tutorial / project"]) == 8
    assert "an eighth of the time" in README

    name, rows = section("processes")
    seconds = [f"{rows[f'processes: {count}, training']:.1f}" for count in (1, 2, 4)]
    differs = [f"{rows[f'processes: {count}, validation loss differs']:.0f}" for count in (2, 4)]
    scaling = " ".join((ROOT / "docs/scaling.md").read_text("utf-8").split())
    assert "took {} s in one process, {} s in two and {} s in four".format(*seconds) in scaling
    assert "at most {} millionths in two processes, {} in four".format(*differs) in scaling
    assert f"of an {name}" in scaling


def section(name: str) -> tuple[str, dict[str, float]]:
    """The processor of a section of the results and, by row, its values."""
    machine, found = next((key, each[name]) for key, each in results.read().items() if name in each)
    processor, flag, _ = machine.split(", ")
    return f"{processor} with {flag}", {key: row["value"] for key, row in found["rows"].items()}
