"""Train recipes over many seeds, and write the tables of what they reach.

    python extras/benchmarks/recipes.py [RECIPE=SEEDS...]

`quick=10` trains seeds 0 to 9 of recipes/quick, one after the other, as the experiments quick-0 to
quick-9, whose models then vote. Seeds that this kind of machine has trained with the same settings
and code are left out, so an interrupted run goes on. Without arguments only the tables are written:
all rows in the README of this folder, one per recipe in that of the project.
"""

import argparse
import hashlib
import json
import re
import shutil
import statistics
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("tools", "")]

from _tool import ROOT

import yaml
from dvc.utils.hydra import apply_overrides

from extras._clone import call
from extras.benchmarks.results import kind, machine, read, save
from extras.benchmarks.runs import (
    Row,
    Run,
    found,
    mean_and_error,
    outcome,
    read_recipe,
    train,
    write_table,
)
from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.common.files import sha256
from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.training.settings import TrainSettings

README, ALL = ROOT / "README.md", Path(__file__).with_name("README.md")
SHOWN = ("quick", "fair", "best")
"""The recipes in the project's README."""
RECIPES = {
    "quick": "one epoch",
    "fair": "more layers, augmentation, 3 epochs",
    "good": "the same for 12 epochs",
    "best": "wider, pooling last, all 60,000 images, 16 epochs",
}
"""What each recipe is, from the fastest to the most accurate."""


def main() -> None:
    """Train what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE=SEEDS", help="such as quick=10")
    for argument in parser.parse_args().recipes:
        recipe, _, seeds = argument.partition("=")
        if recipe not in RECIPES or not re.fullmatch("[1-9][0-9]*", seeds):
            raise UserError(
                f"found {argument}, expected RECIPE=SEEDS, such as quick=10; recipes:"
                f" {', '.join(RECIPES)}"
            )
        measure(recipe, int(seeds))
    write_table(README, "recipes", table(shown_rows(read())))
    write_table(ALL, "recipes", table(all_rows(read())))


def measure(recipe: str, num_seeds: int) -> None:
    """Train the seeds that are missing and let all vote; results.json is saved after each."""
    rows = read().get(kind(machine()), {}).get("recipes", {}).get("rows", {})
    row = rows.get(recipe, {})
    origin = {"settings": settings(recipe), "code": code(read_recipe(recipe))}
    if not origin.items() <= row.items():
        row = origin | {"seeds": {}}
    missing = [seed for seed in range(num_seeds) if str(seed) not in row["seeds"]]
    runs = [Run(f"{recipe}-{seed}", [*read_recipe(recipe), f"seed={seed}"]) for seed in missing]
    for seed, (run, output) in zip(missing, train(runs, jobs=1), strict=True):
        result = outcome(output)
        print(f"{run.name}: {result['accuracy']} % in {result['seconds']} s", flush=True)
        row |= {name: result[name] for name in ("precision", "threads")}
        row["seeds"][str(seed)] = {name: result[name] for name in ("accuracy", "seconds")}
        save("recipes", rows | {recipe: summary(row)})
    if num_seeds > 1:
        models = [f"{recipe}-{seed}" for seed in range(num_seeds)]
        output = call(ROOT, sys.executable, "tools/compare.py", "--vote", *models)
        accuracy = float(found(r"^together +([\d.]+)%", output)[0])
        row["vote"] = {"models": num_seeds, "accuracy": accuracy}
        save("recipes", rows | {recipe: summary(row)})


def settings(recipe: str) -> str:
    """Digest of a recipe, which tells results of earlier ones apart."""
    return sha256(ROOT / "recipes" / recipe)[:8]


def code(values: Sequence[str]) -> str:
    """Digest of what shapes the models of settings `name=value`: code, packages, all settings."""
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]["train"]
    deps = [ROOT / dep for dep in stage["deps"] if not dep.startswith("data/")]
    files = [
        file for dep in deps for file in (sorted(dep.rglob("*.py")) if dep.is_dir() else [dep])
    ]
    with TemporaryDirectory() as folder:
        for name in ("dvc.yaml", "params.yaml"):
            shutil.copy(ROOT / name, folder)
        params = Path(folder) / "params.yaml"
        apply_overrides(params, list(values))
        inputs = read_settings(params, TrainSettings).inputs()
        content = yaml.safe_load(params.read_text("utf-8"))
    data = [content["dataset"], content["validation_fraction"]]
    everything = json.dumps([[sha256(file) for file in files], inputs, data], sort_keys=True)
    return hashlib.sha256(everything.encode()).hexdigest()[:8]


def summary(row: Row) -> Row:
    """A row with the date, its number of runs, mean accuracy, standard error and median time."""
    accuracies = [result["accuracy"] for result in row["seeds"].values()]
    mean, error = mean_and_error(accuracies)
    return row | {
        "date": date.today().isoformat(),
        "runs": len(accuracies),
        "accuracy": round(mean, 4),
        "standard_error": error and round(error, 4),
        "seconds": statistics.median(result["seconds"] for result in row["seeds"].values()),
    }


def table(rows: list[str]) -> str:
    """A table in Markdown."""
    head = "| recipe | test accuracy | errors | training | measured on |"
    return "\n".join([head, "|---|---|---|---|---|", *rows, ""])


def shown_rows(results: dict[str, Row]) -> list[str]:
    """The rows of the project's README: the default, and each recipe on one kind of machine.

    Of the default, `metrics/` has the accuracy and the section `loops` the time.
    """
    test = json.loads((ROOT / "metrics/test.json").read_text("utf-8"))
    name, loops = next((name, each["loops"]) for name, each in results.items() if "loops" in each)
    rows = [
        table_row(
            "the default: the tutorial's MLP, 5 epochs",
            f"{test['accuracy']:.2%}".replace("%", " %"),
            test["errors"],
            f"{loops['rows']['844 steps, project']['value']:.1f} s an epoch",
            f"{processor(name)}, 1 thread, float32; {loops['date']}",
        )
    ]
    for recipe in SHOWN:
        measured = rows_of(recipe, results)
        name, row = max(measured, key=lambda each: (*is_today(recipe, each[1]), each[1]["date"]))
        rows.append(recipe_row(recipe, name, row))
    return rows


def all_rows(results: dict[str, Row]) -> list[str]:
    """Each recipe on each kind of machine, with the vote of its models."""
    return [
        recipe_row(recipe, name, row, row.get("vote"))
        for recipe in RECIPES
        for name, row in rows_of(recipe, results)
    ]


def rows_of(recipe: str, results: dict[str, Row]) -> list[tuple[str, Row]]:
    """Each kind of machine that has measured a recipe, with its row."""
    rows = {name: each.get("recipes", {}).get("rows", {}) for name, each in results.items()}
    return [(name, rows[name][recipe]) for name in rows if recipe in rows[name]]


def is_today(recipe: str, row: Row) -> tuple[bool, bool]:
    """Whether a row is of today's settings, and of today's code."""
    return row["settings"] == settings(recipe), row.get("code") == code(read_recipe(recipe))


def recipe_row(recipe: str, name: str, row: Row, vote: Row | None = None) -> str:
    """What a recipe reaches on a kind of machine."""
    has_settings, has_code = is_today(recipe, row)
    spread = f" ± {row['standard_error']:.2f}" if row["standard_error"] else ""
    threads = f"{row['threads']} thread{'s' * (row['threads'] != 1)}"
    voting = f"; {vote['models']} voting: {errors(vote['accuracy'])}" if vote else ""
    return table_row(
        f"`{recipe}`: {RECIPES[recipe]}" if has_settings else f"`{recipe}`, earlier settings",
        f"{row['accuracy']:.2f}{spread} % ({row['runs']} seeds)",
        f"{errors(row['accuracy'])}{voting}",
        f"{row['seconds']:.0f} s",
        f"{processor(name)}, {threads}, {row['precision']}; {row['date']}"
        + ", earlier code" * (has_settings and not has_code),
    )


def processor(name: str) -> str:
    """A kind of machine without its number of cores."""
    return name.rpartition(", ")[0]


def errors(accuracy: float) -> int:
    """Errors of an accuracy in percent, on 10,000 images."""
    return round(100 * (100 - accuracy))


def table_row(*cells: object) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    run_script(main)
