"""Climb from the tutorial's network to recipes/best, one change at a time: docs/results.md.

    python extras/benchmarks/ladder.py [--seeds 5] [--jobs 2] [--until good]
    python extras/benchmarks/ladder.py --settings STEP

Trains the seeds of each step that are missing, as the experiments ladder-STEP-SEED of HEAD's
commit, then writes the page's table and picture. An interrupted run goes on; without --seeds only
the page is written. --settings prints the settings of a step as a recipe has them.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("tools", "")]

from _tool import ROOT

import numpy as np
import pandas as pd
from _dvc import read_each
from compare import PREDICTIONS, check_images, read_predictions
from PIL import Image, ImageDraw, ImageFont

from extras.benchmarks.recipes import code
from extras.benchmarks.results import kind, machine, read, save
from extras.benchmarks.runs import Row, Run, mean_and_error, outcome, train, write_table
from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.evaluation.pictures import write_png

PAGE, PICTURE = ROOT / "docs/results.md", ROOT / "docs/results.png"
CAPTION = "Errors on the test images after each step: a dot per training run, a line for their mean"
STEPS = {
    "tutorial": ("the tutorial's MLP", ""),
    "momentum": (
        "momentum, learning rate 0.02",
        "optimizers.sgd.lr=0.02 optimizers.sgd.momentum=0.9 optimizers.sgd.nesterov=true"
        " optimizers.sgd.weight_decay=0.0005",
    ),
    "convolutions": (
        "three convolutions instead",
        "model=cnn models.cnn.channels=[[8],[24],[48]] models.cnn.batch_norm=false",
    ),
    "normalization": (
        "batch and input normalization",
        "models.cnn.batch_norm=true normalization=standard",
    ),
    "one-cycle": (
        "one-cycle schedule, larger batches",
        "schedule=one_cycle optimizers.sgd.lr=0.1 batch_size=128",
    ),
    "augmentation": (
        "augmentation",
        "augmentation=affine augmentations.affine.rotation=8"
        " augmentations.affine.translation=1 augmentations.affine.scale=0.08",
    ),
    "native": ("native arithmetic", "arithmetic=native threads=1"),
    "depth": ("five convolutions, wider", "models.cnn.channels=[[16],[32,32],[64,64]]"),
    "smoothing": ("label smoothing", "label_smoothing=0.1"),
    "good": ("12 epochs: recipes/good", "epochs=12"),
    "longer": (
        "16 epochs, stronger augmentation",
        "epochs=16 augmentations.affine.rotation=15 augmentations.affine.translation=3"
        " augmentations.affine.scale=0.15 augmentations.affine.shear=10",
    ),
    "width": (
        "six, twice as wide, pooling last",
        "models.cnn.channels=[[32,32],[64,64],[128,128]] models.cnn.pool_after=last",
    ),
    "best": ("all 60,000 images: recipes/best", "validation_fraction=0"),
}
"""Each step: what it changes, and the settings that do so on top of those of the steps before."""


def main() -> None:
    """Train what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=0, help="training runs of each step")
    parser.add_argument("--jobs", type=int, default=1, help="training runs at a time")
    parser.add_argument("--until", choices=STEPS, default=list(STEPS)[-1], help="last step")
    parser.add_argument("--settings", choices=STEPS, help="only print the settings of a step")
    options = parser.parse_args()
    if options.settings:
        print("\n".join(f"--set-param={setting}" for setting in settings(options.settings)))
        return
    if options.jobs < 1:
        raise UserError(f"--jobs: found {options.jobs}, expected a positive integer")
    steps = list(STEPS)[: list(STEPS).index(options.until) + 1]
    measure(steps, options.seeds, options.jobs)
    results = read()
    write_table(PAGE, "ladder", table(results))
    if rows := max((rows_of(each) for each in results.values()), key=len):
        write_png(PICTURE, picture(rows))


def settings(step: str) -> list[str]:
    """All settings of a step, `name=value`; later steps replace those of earlier ones."""
    steps = list(STEPS)
    values: dict[str, str] = {}
    for each in steps[: steps.index(step) + 1]:
        values |= dict(setting.split("=", 1) for setting in STEPS[each][1].split())
    return [f"{name}={value}" for name, value in values.items()]


def digest(step: str) -> str:
    """Digest of a step's settings, which tells results of other ones apart."""
    return hashlib.sha256("\n".join(settings(step)).encode()).hexdigest()[:8]


def origin(step: str, jobs: int) -> Row:
    """What the runs of a row have in common."""
    return {"settings": digest(step), "code": code(settings(step)), "jobs": jobs}


def measure(steps: list[str], num_seeds: int, jobs: int) -> None:
    """Train the seeds that are missing; results.json is saved after each.

    A row of other code, packages or defaults, or of other runs at a time, starts anew.
    """
    rows = rows_of(read().get(kind(machine()), {}))
    origins = {step: origin(step, jobs) for step in steps}
    rows = {step: row for step, row in rows.items() if origins.get(step, {}).items() <= row.items()}
    missing = {
        name_of(step, seed): (step, seed)
        for step in steps
        for seed in range(num_seeds)
        if str(seed) not in rows.get(step, {}).get("seeds", {})
    }
    runs = [Run(name, [*settings(step), f"seed={seed}"]) for name, (step, seed) in missing.items()]
    for run, output in train(runs, jobs):
        step, seed = missing[run.name]
        result = outcome(output)
        same = origins[step] | {name: result.pop(name) for name in ("precision", "threads")}
        seeds = rows.get(step, {}).get("seeds", {}) | {str(seed): result | paired(step, seed)}
        rows[step] = same | {"seeds": seeds}
        print(f"{run.name}: {result['accuracy']} % in {result['seconds']} s", flush=True)
        save("ladder", {name: rows[name] for name in STEPS if name in rows})  # in order


def rows_of(sections: Row) -> dict[str, Row]:
    """The rows of a machine's sections that have today's settings."""
    rows = sections.get("ladder", {}).get("rows", {})
    return {
        step: rows[step] for step in STEPS if rows.get(step, {}).get("settings") == digest(step)
    }


def name_of(step: str, seed: int) -> str:
    """Name of an experiment."""
    return f"ladder-{step}-{seed}"


def paired(step: str, seed: int) -> Row:
    """How many test images a run gained and lost, over the same seed of the step before.

    Empty if there is none, or if the predictions of that run are not in this repository.
    """
    position = list(STEPS).index(step)
    if not position:
        return {}
    names = [name_of(each, seed) for each in list(STEPS)[position - 1 : position + 1]]
    try:
        tables = dict(zip(names, read_each(names, PREDICTIONS, read_predictions), strict=True))
    except UserError as error:
        print(f"warning: no images gained and lost: {error}", file=sys.stderr)
        return {}
    check_images(tables)
    return gained_and_lost(*tables.values())


def gained_and_lost(before: pd.DataFrame, after: pd.DataFrame) -> Row:
    """Count the images that only the later of two models classifies correctly, and the others."""
    was, now = ((each["actual"] == each["predicted"]).to_numpy() for each in (before, after))
    return {"gained": int(np.sum(now & ~was)), "lost": int(np.sum(was & ~now))}


def table(results: dict[str, Row]) -> str:
    """The page's table in Markdown, one for each kind of machine, under the picture."""
    lines: list[str] = []
    for name, sections in results.items():
        if rows := rows_of(sections):
            first = next(iter(rows.values()))
            at_a_time = f", {first['jobs']} runs at a time" if first["jobs"] > 1 else ""
            if not lines:
                lines += [f"![{CAPTION}]({PICTURE.name})", ""]
            lines += [
                f"On {name}, {first['threads']} thread{at_a_time}:",
                "",
                "| step | what is new | held-out % | test % | gained | lost | net | training |",
                "|---|---|---|---|---|---|---|---|",
                *(table_row(step, row) for step, row in rows.items()),
                "",
            ]
    return "\n".join(lines)


def table_row(step: str, row: Row) -> str:
    """A row of the table: means over the seeds with their standard errors, and the median time."""
    seeds = list(row["seeds"].values())
    held_out = [each["validation"] for each in seeds if each["validation"] is not None]
    pairs = [each for each in seeds if "gained" in each]
    cells = [
        f"`{step}`",
        STEPS[step][0],
        show(held_out, ".2f"),
        show([each["accuracy"] for each in seeds], ".2f"),
        *(show([each[name] for each in pairs], ".0f", error=False) for name in ("gained", "lost")),
        show([each["gained"] - each["lost"] for each in pairs], "+.1f"),
        f"{median(each['seconds'] for each in seeds):.0f} s",
    ]
    return f"| {' | '.join(cells)} |"


def show(values: list[float], form: str, error: bool = True) -> str:
    """A mean with its standard error, or nothing if there are no values."""
    if not values:
        return ""
    mean, deviation = mean_and_error(values)
    return f"{mean:{form}}" + (f" ± {deviation:{form.strip('+')}}" if error and deviation else "")


def picture(rows: dict[str, Row]) -> Image.Image:
    """Test errors of every run on a logarithmic axis, a line per step, with their mean."""
    font, line, left, right = ImageFont.load_default(26), 56, 520, 1400
    errors = {
        step: [100 * (100 - each["accuracy"]) for each in row["seeds"].values()]
        for step, row in rows.items()
    }
    low, high = np.log10([min(map(min, errors.values())), max(map(max, errors.values()))])

    def across(value: float) -> float:
        return left + (right - left) * float((np.log10(value) - low) / max(high - low, 1e-9))

    image = Image.new("RGB", (1600, line * (len(rows) + 2)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((left, line // 2), "errors on the 10,000 test images", "black", font, anchor="lm")
    for value in (10, 20, 50, 100, 200, 500, 1000):
        if 10**low <= value <= 10**high:
            x = across(value)
            draw.line((x, line, x, line * (len(rows) + 1)), "#dddddd", 2)
            draw.text((x, line * (len(rows) + 1.5)), str(value), "#555555", font, anchor="mm")
    for number, (step, values) in enumerate(errors.items()):
        y = line * (number + 1.5)
        draw.text((left - 40, y), STEPS[step][0], "black", font, anchor="rm")
        for value in values:
            draw.circle((across(value), y), 7, "#9ecae1")
        mean = float(np.mean(values))
        draw.line((across(mean), y - 16, across(mean), y + 16), "#08519c", 5)
        draw.text((max(map(across, values)) + 24, y), f"{mean:.0f}", "#08519c", font, anchor="lm")
    return image


if __name__ == "__main__":
    run_script(main)
