"""The classifiers, and the file that describes one completely.

A classifier takes images uint8 (or float, still 0..255) [B, 1, 28, 28] and gives logits float32
[B, C]: there is no softmax in forward, because the losses contain it. To add a model: a function
here, in MODELS, and its settings in params.py and params.yaml.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import UserError
from .tensorfiles import load_tensors, save_tensors

SIDE = 28

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}


class Normalize(nn.Module):
    """Pixels 0..255 → float32 (pixel / 255 - mean) / std, on the device the images are on."""

    shift: Tensor

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.scale = 1 / (255 * std)
        self.register_buffer("shift", torch.tensor(-mean / std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 or float, any shape → float32, the same shape."""
        return torch.add(self.shift, images, alpha=self.scale)  # in one pass over the images


def mlp(num_classes: int, hidden_sizes: list[int], activation: str, dropout: float) -> nn.Module:
    """The tutorial's multi-layer perceptron: 784 → each hidden size → `num_classes`."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [SIDE * SIDE, *hidden_sizes]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(sizes[-1], num_classes))
    return nn.Sequential(*layers)


def cnn(
    num_classes: int,
    channels: list[list[int]],
    kernel_size: int,
    pooling: str,
    pool_after: str,
    batch_norm: bool,
    activation: str,
    dropout: float,
    head: list[int],
) -> nn.Module:
    """A convolutional network: blocks of convolutions, then the linear layers of `head`.

    `channels` has a list a block, with an entry a convolution. Each block halves the side once,
    after its `pool_after` "first" convolution, which makes the others a quarter of the work (Keller
    Jordan, 94% on CIFAR-10 in 3.29 seconds, arXiv:2404.00498), or after its "last", which gives
    the better network of the two.
    """
    layers: list[nn.Module] = []
    inputs, side = 1, SIDE
    for block in channels:
        pooled = 0 if pool_after == "first" else len(block) - 1
        for index, outputs in enumerate(block):
            layers.append(
                nn.Conv2d(inputs, outputs, kernel_size, padding="same", bias=not batch_norm)
            )
            if index == pooled:
                layers.append(POOLINGS[pooling](2))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(ACTIVATIONS[activation]())
            inputs = outputs
        if dropout:
            layers.append(nn.Dropout(dropout))
        side //= 2
    layers.append(nn.Flatten())
    sizes = [inputs * side * side, *head]
    for size, outputs in pairwise(sizes):
        layers += [nn.Linear(size, outputs), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(sizes[-1], num_classes))
    return nn.Sequential(*layers)


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn}
POOLINGS: dict[str, Callable[[int], nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build a classifier, and to say what its outputs mean."""

    model: str  # a key of MODELS
    settings: Mapping[str, Any]  # its arguments
    classes: list[str]  # the name of each output
    mean: float  # of the pixels in [0, 1], for Normalize
    std: float
    precision: str  # of the arithmetic: float32 or bfloat16; the weights are float32
    loss: str  # what it was trained with, see losses.py
    dataset: str  # whose training split
    members: int = 1  # how many such networks answer together


class Network(nn.Sequential):
    """Normalize, then the layers; the precision is part of it, wherever it runs."""

    def __init__(self, normalize: Normalize, layers: nn.Module, precision: str) -> None:
        super().__init__(normalize, layers)
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 1, 28, 28] → logits float32 [B, C]."""
        low = self.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            return super().forward(images).float()


class Ensemble(nn.ModuleList):
    """Networks that answer together: the mean of their logits."""

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 1, 28, 28] → logits float32 [B, C]."""
        return torch.stack([member(images) for member in self]).mean(0)


def build_model(spec: ModelSpec, seed: int = 0) -> Network:
    """One network with fresh weights, drawn from torch's global generator, seeded by `seed`."""
    torch.manual_seed(seed)
    layers = MODELS[spec.model](num_classes=len(spec.classes), **spec.settings)
    network = Network(Normalize(spec.mean, spec.std), layers, spec.precision)
    # The order of a convolution's weights in memory for which the CPU and tensor cores are fastest.
    return network.to(memory_format=torch.channels_last)


def together(members: Sequence[nn.Module]) -> nn.Module:
    """One model of all `members`."""
    return members[0] if len(members) == 1 else Ensemble(members)


def save_model(path: Path, model: nn.Module, spec: ModelSpec, engine: Mapping[str, Any]) -> None:
    """Write weights and spec; `engine` is a record of what else shaped the weights."""
    weights = {
        name: tensor.cpu().contiguous().numpy() for name, tensor in model.state_dict().items()
    }
    save_tensors(path, weights, {"spec": asdict(spec), "engine": dict(engine)})


def load_model(path: Path) -> tuple[nn.Module, ModelSpec]:
    """The model in `path`, on the CPU and in evaluation mode, and its spec.

    Raises UserError: missing or damaged file, or no model that this code can build.
    """
    weights, header = load_tensors(path, made_by="train")
    try:
        spec = ModelSpec(**header["spec"])
        model = together([build_model(spec) for _ in range(spec.members)])
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        problem = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a model of this code ({problem}); 'dvc repro train' writes one"
        ) from None
    return model.eval(), spec
