"""Time an epoch of the tutorial's network in three ways, and the loader alone.

    python extras/benchmarks/loops.py STEPS REPEATS

Prints the seconds of every repeat as JSON. Needs data/raw and data/processed. The ways alternate,
so that a machine that slows down slows all of them.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "stages"))

from _stage import ROOT

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.model.files import build_model
from mnist_pipeline.runtime.arithmetic import set_up
from mnist_pipeline.splits.batches import ImageDataset, load_info, load_split
from mnist_pipeline.training.loop import Trainer
from mnist_pipeline.training.run import build_spec, build_trainer
from mnist_pipeline.training.settings import TrainSettings

BATCH_SIZE = 64


def tutorial_epoch(steps: int) -> Callable[[], None]:
    """The tutorial's loop as printed, with torchvision's transforms image by image."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    dataset = MNIST(ROOT / "data/raw", train=True, transform=transform)
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def epoch() -> None:
        for step, (images, labels) in enumerate(loader, start=1):
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 100 == 0:
                print(f"Step [{step}/{len(loader)}], Loss: {loss.item():.4f}")
            if step == steps:
                break

    return epoch


def project_trainer(params: TrainSettings, steps: int, device: torch.device) -> Trainer:
    """This project's trainer, without a validation split."""
    data = ROOT / "data/processed"
    dataset = load_split(data, "train")
    train_set = ImageDataset(*dataset[: steps * BATCH_SIZE])
    no_validation_set = ImageDataset(*dataset[:0])
    model = build_model(build_spec(params, load_info(data), device), params.seed)
    return build_trainer(params, model, train_set, no_validation_set, device)


def loader_epoch(trainer: Trainer) -> Callable[[], None]:
    """Every batch of the trainer's loader, fetched and dropped."""

    def epoch() -> None:
        for _ in trainer.train_loader:
            pass

    return epoch


def matrix_products(steps: int) -> Callable[[], None]:
    """The five matrix products of each step, forward and backward."""
    x, hidden, gradient = (torch.rand(BATCH_SIZE, size) for size in (784, 512, 10))
    w1, w2 = torch.rand(512, 784), torch.rand(10, 512)
    factors = [(x, w1.T), (hidden, w2.T), (gradient.T, hidden), (gradient, w2), (hidden.T, x)]
    products = [torch.mm(a, b) for a, b in factors]

    def epoch() -> None:
        for _ in range(steps):
            for (a, b), product in zip(factors, products, strict=True):
                torch.mm(a, b, out=product)

    return epoch


def with_threads(threads: int, epoch: Callable[[], None]) -> Callable[[], None]:
    """The same epoch with another number of threads."""

    def epoch_with_threads() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        epoch()
        torch.set_num_threads(before)

    return epoch_with_threads


def seconds(epoch: Callable[[], object]) -> float:
    """Run an epoch and return its duration."""
    start = time.perf_counter()
    epoch()
    return time.perf_counter() - start


def main() -> None:
    """Time each way `REPEATS` times over `STEPS` steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("steps", type=int)
    parser.add_argument("repeats", type=int)
    arguments = parser.parse_args()
    steps, repeats = arguments.steps, arguments.repeats
    params = read_settings(ROOT / "params.yaml", TrainSettings)
    all_threads = torch.get_num_threads()
    device = set_up(params)  # its arithmetic is that of every way
    trainer = project_trainer(params, steps, device)
    epochs: dict[str, Callable[[], object]] = {
        "tutorial": with_threads(all_threads, tutorial_epoch(steps)),
        "project": lambda: trainer.train_epoch(1),
        "products": matrix_products(steps),
        "loader": loader_epoch(trainer),
    }
    with redirect_stdout(sys.stderr):
        for name in ("project", "products", "loader"):  # the tutorial is slow and needs no warm-up
            epochs[name]()
        turns = [{name: seconds(epoch) for name, epoch in epochs.items()} for _ in range(repeats)]
    json.dump({name: [turn[name] for turn in turns] for name in epochs}, sys.stdout)


if __name__ == "__main__":
    main()
