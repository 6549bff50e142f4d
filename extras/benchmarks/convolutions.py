"""Time a training step of each recipe, and its convolutions alone.

    python extras/benchmarks/convolutions.py TURNS [RECIPE...]

Prints the milliseconds per step of every turn as JSON, by recipe. Needs data/processed. Step and
convolutions alternate, so that a machine that slows down slows both.
"""

import json
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "stages"))

from _stage import ROOT

import torch
import yaml
from torch import Tensor, nn

from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.model.networks import Network, build_model
from mnist_pipeline.runtime.arithmetic import keep_memory, set_up
from mnist_pipeline.splits.batches import ImageDataset, load_info, load_split
from mnist_pipeline.training.run import build_spec, build_trainer
from mnist_pipeline.training.settings import TrainSettings

STEPS = 20
"""Steps per turn."""


def recipe_params(recipe: str) -> TrainSettings:
    """The train stage's settings after `dvc exp run $(cat recipes/RECIPE)`."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    for option in shlex.split((ROOT / "recipes" / recipe).read_text("utf-8"))[1::2]:
        name, value = option.split("=", 1)
        *blocks, last = name.split(".")
        block = settings
        for key in blocks:
            block = block[key]
        block[last] = yaml.safe_load(value)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(yaml.safe_dump(settings))
        return read_settings(path, TrainSettings)


def bare_convolutions(model: Network, images: Tensor) -> Callable[[], None]:
    """The convolutions of one step on a batch of `images`, forward and backward."""
    calls: list[tuple[nn.Conv2d, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output: calls.append((module, inputs[0], output))
        )
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    padding = calls[0][0].kernel_size[0] // 2

    def step() -> None:
        for number, (module, inputs, output) in enumerate(calls):
            weight = module.weight.detach().to(inputs.dtype)
            torch.conv2d(inputs, weight, None, 1, padding)
            mask = [number > 0, True, False]  # nobody needs the gradient of the images
            torch.ops.aten.convolution_backward(
                output, inputs, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, mask
            )

    return step


def milliseconds(turn: Callable[[], object]) -> float:
    """Duration of a turn, per step."""
    start = time.perf_counter()
    turn()
    return 1000 * (time.perf_counter() - start) / STEPS


def measure(recipe: str, turns: int) -> dict[str, list[float]]:
    """Milliseconds per step of a recipe, and of its convolutions alone, for every turn."""
    params = recipe_params(recipe).model_copy(update={"epochs": turns + 1})
    device = set_up(params)
    data = ROOT / "data/processed"
    dataset = load_split(data, "train")
    train_set, no_validation_set = (
        ImageDataset(*dataset[:length]) for length in (STEPS * params.batch_size, 0)
    )
    model = build_model(build_spec(params, load_info(data), device), params.seed).to(device)
    trainer = build_trainer(params, model, train_set, no_validation_set, device)
    convolutions = bare_convolutions(model, dataset[: params.batch_size][0].to(device))
    parts: dict[str, Callable[[], object]] = {
        "step": lambda: trainer.train_epoch(1),
        "convolutions": lambda: [convolutions() for _ in range(STEPS)],
    }
    parts["step"]()
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(turns):
        for name, part in parts.items():
            times[name].append(milliseconds(part))
    return times


def main() -> None:
    """Measure each recipe, or the given ones."""
    turns, *recipes = sys.argv[1:]
    keep_memory()
    with redirect_stdout(sys.stderr):
        names = recipes or sorted(path.name for path in (ROOT / "recipes").iterdir())
        times = {name: measure(name, int(turns)) for name in names}
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main()
