"""Train recipes over many seeds, and write the README's table of what they reach.

    python extras/benchmarks/recipes.py [RECIPE=SEEDS...]

`quick=10` trains seeds 0 to 9 of recipes/quick, one after the other, as the experiments quick-0 to
quick-9, whose models then vote. Seeds that this kind of machine has trained with the same settings
are left out, so an interrupted run goes on. Without arguments only the table is written.
"""

import argparse
import hashlib
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from extras.benchmarks.results import kind, machine, read, save
from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.common.files import atomic

README = ROOT / "README.md"
TABLE = re.compile(r"(?<=<!-- recipes -->\n).*?(?=<!-- end -->)", re.DOTALL)
RECIPES = {
    "quick": "one epoch",
    "fair": "more layers, augmentation, 3 epochs",
    "good": "the same for 12 epochs",
    "best": "wider, pooling last, all 60,000 images, 16 epochs",
}
"""What each recipe is, from the fastest to the most accurate."""
Row = dict[str, Any]


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
    text = README.read_text("utf-8")
    with atomic(README) as temporary:
        temporary.write_text(TABLE.sub(lambda _: table(read()), text), "utf-8")


def measure(recipe: str, num_seeds: int) -> None:
    """Train the seeds that are missing and let all vote; results.json is saved after each."""
    rows = read().get(kind(machine()), {}).get("recipes", {}).get("rows", {})
    row = rows.get(recipe, {})
    if row.get("settings") != settings(recipe):
        row = {"settings": settings(recipe), "seeds": {}}
    for seed in range(num_seeds):
        if str(seed) not in row["seeds"]:
            row |= train(recipe, seed, row["seeds"])
            save("recipes", rows | {recipe: summary(row)})
    if num_seeds > 1:
        models = [f"{recipe}-{seed}" for seed in range(num_seeds)]
        output = python("tools/compare.py", "--vote", *models)
        accuracy = float(found(r"^together +([\d.]+)%", output)[0])
        row["vote"] = {"models": num_seeds, "accuracy": accuracy}
        save("recipes", rows | {recipe: summary(row)})


def settings(recipe: str) -> str:
    """Digest of a recipe's settings, which tells results of earlier ones apart."""
    return hashlib.sha256((ROOT / "recipes" / recipe).read_bytes()).hexdigest()[:8]


def train(recipe: str, seed: int, seeds: Row) -> Row:
    """Run the experiment RECIPE-SEED; return its row with the test accuracy and the time."""
    name = f"{recipe}-{seed}"
    options = shlex.split((ROOT / "recipes" / recipe).read_text("utf-8"))
    # Forced, because the run cache does not know how long a training took.
    experiment = ("-m", "dvc", "exp", "run", "--temp", "--force", "--name", name)
    output = python(*experiment, *options, "-S", f"seed={seed}")
    precision, threads = found(r"^Training on .* in (\w+), (\d+) threads?$", output)
    (seconds,) = found(r"^Trained .* in ([\d.]+) s$", output)
    (accuracy,) = found(r"^Accuracy of the model on .*: ([\d.]+)%$", output)
    print(f"{name}: {accuracy} % in {seconds} s", flush=True)
    result = {"accuracy": float(accuracy), "seconds": float(seconds)}
    return {
        "precision": precision,
        "threads": int(threads),
        "seeds": seeds | {str(seed): result},
    }


def python(*arguments: str) -> str:
    """Run this Python in the project; return its output. Raises UserError: it failed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def found(pattern: str, output: str) -> tuple[str, ...]:
    """The groups of a pattern in an output."""
    match = re.search(pattern, output, re.MULTILINE)
    assert match, output
    return match.groups()


def summary(row: Row) -> Row:
    """A row with its number of runs, mean accuracy, standard error and median time."""
    accuracies = [result["accuracy"] for result in row["seeds"].values()]
    runs = len(accuracies)
    error = statistics.stdev(accuracies) / runs**0.5 if runs > 1 else None
    return row | {
        "runs": runs,
        "accuracy": round(statistics.mean(accuracies), 4),
        "standard_error": error and round(error, 4),
        "seconds": statistics.median(result["seconds"] for result in row["seeds"].values()),
    }


def table(results: dict[str, Row]) -> str:
    """The README's table in Markdown: each recipe on each kind of machine, and the votes."""
    lines = [
        "| recipe | test accuracy | errors | training | computed on |",
        "|---|---|---|---|---|",
    ]
    for recipe, description in RECIPES.items():
        for name, sections in results.items():
            row = sections.get("recipes", {}).get("rows", {}).get(recipe)
            if row is None:
                continue
            today = row["settings"] == settings(recipe)
            spread = f" ± {row['standard_error']:.2f}" if row["standard_error"] else ""
            processor = name.rpartition(", ")[0]  # without the number of cores
            threads = f"{row['threads']} thread{'s' * (row['threads'] != 1)}"
            lines += table_row(
                f"`{recipe}`: {description}" if today else f"`{recipe}`, earlier settings",
                f"{row['accuracy']:.2f}{spread} % ({row['runs']} seeds)",
                row["accuracy"],
                f"{row['seconds']:.0f} s",
                f"{processor}, {threads}, {row['precision']}",
            )
            if "vote" in row:
                vote, models = row["vote"]["accuracy"], row["vote"]["models"]
                title = f"`{recipe}`, {models} models voting"
                lines += table_row(title, f"{vote:.2f} %", vote, "", "the same")
    return "\n".join([*lines, ""])


def table_row(title: str, shown: str, accuracy: float, training: str, machine: str) -> list[str]:
    """A row of the table; the number of errors is that of 10,000 images."""
    return [f"| {title} | {shown} | {100 * (100 - accuracy):.0f} | {training} | {machine} |"]


if __name__ == "__main__":
    run_script(main)
