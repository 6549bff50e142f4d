"""One epoch of the tutorial's network, three ways, and the loader alone: seconds, as JSON.

Run by run.py in a process of its own, in a clone whose data is there. The ways take turns, so that
a machine that slows down slows all of them.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from mnist_pipeline.data import load_split, make_loader
from mnist_pipeline.losses import LOSSES
from mnist_pipeline.models import ModelSpec, build_model
from mnist_pipeline.optimizers import build_optimizer, build_schedule
from mnist_pipeline.params import TrainParams, read_params
from mnist_pipeline.runtime import deterministic, keep_memory
from mnist_pipeline.training import Trainer

BATCH = 64
CPU = torch.device("cpu")


def tutorials(steps: int) -> Callable[[], None]:
    """The tutorial's loop as printed: torchvision's transforms, image by image.

    Source: the tutorial's MNIST example; its loop prints every 100 steps.
    """
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    dataset = MNIST(ROOT / "data/raw", train=True, transform=transform)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)
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
                print(f"Step [{step}/{len(loader)}], Loss: {loss.item():.4f}", file=sys.stderr)
            if step == steps:
                break

    return epoch


def this_projects(steps: int) -> Callable[[], None]:
    """The same training by this project's own loop, with the settings of params.yaml."""
    params = read_params(ROOT / "params.yaml", TrainParams)
    dataset, header = load_split(ROOT / "data/processed", "train")
    dataset.data, dataset.labels = dataset.data[: steps * BATCH], dataset.labels[: steps * BATCH]
    spec = ModelSpec(
        "mlp", params.chosen("model"), header["classes"], 0.5, 0.5, "float32", "nll", "mnist"
    )
    model = build_model(spec)
    optimizer = build_optimizer("sgd", params.chosen("optimizer"), model.parameters())
    loader = make_loader(dataset, BATCH, shuffle=True)
    schedule = build_schedule("constant", {}, optimizer, 1, len(loader))
    trainer = Trainer(model, LOSSES["cross_entropy"], optimizer, schedule, loader, None, CPU, 1)

    def epoch() -> None:
        trainer.train_epoch(1)

    return epoch


def loader_alone(steps: int) -> Callable[[], None]:
    """Every batch of an epoch, fetched as above and dropped."""
    dataset, _ = load_split(ROOT / "data/processed", "train")
    dataset.data, dataset.labels = dataset.data[: steps * BATCH], dataset.labels[: steps * BATCH]
    loader = make_loader(dataset, BATCH, shuffle=True)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def matrix_products(steps: int) -> Callable[[], None]:
    """The five products of a step, forward and backward, and nothing else."""
    x, h = torch.rand(BATCH, 784), torch.rand(BATCH, 512)
    w1, w2, g = torch.rand(512, 784), torch.rand(10, 512), torch.rand(BATCH, 10)
    outs: list[Tensor] = [x @ w1.T, h @ w2.T, g.T @ h, g @ w2, h.T @ x]

    def epoch() -> None:
        for _ in range(steps):
            torch.mm(x, w1.T, out=outs[0])
            torch.mm(h, w2.T, out=outs[1])
            torch.mm(g.T, h, out=outs[2])
            torch.mm(g, w2, out=outs[3])
            torch.mm(h.T, x, out=outs[4])

    return epoch


def main() -> None:
    """Time each way `repeats` times over `steps` steps."""
    steps, repeats = int(sys.argv[1]), int(sys.argv[2])
    deterministic()
    keep_memory()  # of use to every way
    ways = {
        "tutorial": tutorials(steps),
        "project": this_projects(steps),
        "products": matrix_products(steps),
        "loader": loader_alone(steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    output, sys.stdout = sys.stdout, sys.stderr
    for repeat in range(repeats + 1):
        for name, epoch in ways.items():
            if name == "tutorial" and repeat == 0:
                continue  # it needs no warming up, and is slow
            start = time.perf_counter()
            epoch()
            if repeat > 0:
                seconds[name].append(time.perf_counter() - start)
    json.dump(seconds, output)


if __name__ == "__main__":
    main()
