"""Networks: mlp and cnn, and the model file that describes one completely.

A network maps images [B, C, H, W], uint8 or float in 0..255, to logits float32 [B, classes]. There
is no softmax in forward, because the losses contain it. To add a model: a function here, with its
settings as keyword-only parameters, its entry in MODELS, and its block in params.yaml.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ..common.errors import UserError
from ..common.settings import ConflictError, Fraction, OneOf
from ..splits.batches import MNIST_SHAPE, DatasetInfo
from .tensors import load_tensors, save_tensors

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),  # no layer before it needs its own outputs again
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}
POOLINGS: dict[str, Callable[[int], nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}

Size = Annotated[int, Field(ge=1, le=2**20)]
Activation = Annotated[str, OneOf(ACTIVATIONS)]


class Normalize(nn.Module):
    """Convert pixels 0..255 to float32 (pixel / 255 - mean) / std, on the images' device."""

    shift: Tensor

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.scale = 1 / (255 * std)
        self.register_buffer("shift", torch.tensor(-mean / std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 or float, any shape → float32, the same shape."""
        return torch.add(self.shift, images, alpha=self.scale)  # one pass over the images


class Linear(nn.Linear):
    """nn.Linear, padded inside with zeros to sizes for which all x86-64 CPUs round alike.

    See `padded`. The batch is a size of the weight's gradient, so it is padded in training.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs [B, in_features] → [B, out_features]."""
        batch, columns, rows = inputs.shape[0], self.in_features, self.out_features
        inputs = pad(inputs, padded(batch) if self.training else batch, padded(columns))
        weight = pad(self.weight, padded(rows), padded(columns))
        bias = pad(self.bias[None], 1, padded(rows))[0]
        return F.linear(inputs, weight, bias)[:batch, :rows]


def padded(size: int) -> int:
    """A size of a matrix, not below `size`, for which MKL rounds alike everywhere.

    Even in its reproducible mode, MKL rounds differently on Intel CPUs than on those of other
    vendors for fewer than 12 columns, for vectors, and for sums of 193 to 257 products, which one
    of them seems to divide. Found by comparing an Intel Xeon with an emulated AMD EPYC.
    """
    if 192 < size < 258:
        return 264
    return max(size, 16)


def pad(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """Append rows and columns of zeros to a matrix [r, c] → [rows, columns]."""
    missing = (0, columns - matrix.shape[1], 0, rows - matrix.shape[0])
    return F.pad(matrix, missing) if any(missing) else matrix


def mlp(
    shape: Sequence[int],
    num_classes: int,
    *,
    hidden_sizes: list[Size],
    activation: Activation,
    dropout: Fraction,
) -> nn.Module:
    """The tutorial's multilayer perceptron: C · H · W → each hidden size → `num_classes`.

    `shape` is that of an image, [C, H, W].
    """
    sizes = [math.prod(shape), *hidden_sizes, num_classes]
    return nn.Sequential(nn.Flatten(), *linear_layers(sizes, activation, dropout))


def linear_layers(sizes: list[int], activation: str, dropout: float) -> list[nn.Module]:
    """Linear layers from each size to the next, activation and dropout after all but the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [Linear(inputs, outputs), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return [*layers, Linear(sizes[-2], sizes[-1])]


def cnn(
    shape: Sequence[int],
    num_classes: int,
    *,
    channels: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=1)]],
        Field(min_length=1),
    ],
    kernel_size: Literal[1, 3, 5, 7, 9],
    pooling: Annotated[str, OneOf(POOLINGS)],
    pool_after: Literal["first", "last"],
    batch_norm: bool,
    activation: Activation,
    dropout: Fraction,
    head: list[Size],
) -> nn.Module:
    """A convolutional network: blocks of convolutions, then the linear layers of `head`.

    `shape` is that of an image, [C, H, W].
    `channels` has one list per block, with one entry per convolution. Each block halves the image
    once: after its first convolution (`pool_after` "first"), which makes the following ones four
    times cheaper (Keller Jordan, 94% on CIFAR-10 in 3.29 Seconds, arXiv:2404.00498), or after its
    last one, which is more accurate. Raises ConflictError: more blocks than the image has halves.
    """
    layers: list[nn.Module] = []
    inputs, height, width = shape
    # Batch normalization cannot train on a batch of one image of one pixel.
    most = min(height, width).bit_length() - 2
    if len(channels) > most:
        raise ConflictError(
            f"models.cnn.channels: found {len(channels)} blocks, expected at most {most}: each"
            f" halves the image, and {height} × {width} pixels have to leave 2 per side"
        )
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
        height, width = height // 2, width // 2
    layers.append(nn.Flatten())
    layers += linear_layers([inputs * height * width, *head, num_classes], activation, dropout)
    return nn.Sequential(*layers)


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn}


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build a network and to interpret its outputs."""

    model: str  # a key of MODELS
    settings: Mapping[str, Any]  # arguments of that function
    classes: list[str]  # name of each output
    mean: float  # of pixels in [0, 1], for Normalize
    std: float
    precision: str  # of the arithmetic, float32 or bfloat16; the weights are float32
    loss: str  # a key of LOSSES, which the network was trained with
    dataset: str  # name of the dataset it was trained on
    # Model files of earlier versions lack these two.
    shape: list[int] = field(default_factory=MNIST_SHAPE.copy)  # of an image, [C, H, W]
    picture: str = "glyph"  # what its images were made from, glyph or photo


class Network(nn.Sequential):
    """Normalization and layers; computes in `precision` wherever it runs."""

    def __init__(self, normalize: Normalize, layers: nn.Module, precision: str) -> None:
        super().__init__(normalize, layers)
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → logits float32 [B, classes]."""
        low = self.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            return super().forward(images).float()


def build_model(spec: ModelSpec, seed: int = 0) -> Network:
    """Build a network with random weights. Seeds torch's global generator with `seed`."""
    torch.manual_seed(seed)
    layers = MODELS[spec.model](spec.shape, len(spec.classes), **spec.settings)
    network = Network(Normalize(spec.mean, spec.std), layers, spec.precision)
    # The memory format of convolution weights that is fastest on CPUs and tensor cores.
    return network.to(memory_format=torch.channels_last)


def save_model(
    path: Path, model: nn.Module, spec: ModelSpec, environment: Mapping[str, Any]
) -> None:
    """Write weights, spec and `runtime.environment`, which the model was trained in."""
    metadata = {"spec": asdict(spec), "environment": dict(environment)}
    save_tensors(path, model.state_dict(), metadata)


def load_model(path: Path) -> tuple[Network, ModelSpec]:
    """Load a model file: the network, on the CPU and in evaluation mode, and its spec.

    Raises UserError: missing or damaged file, or a model that this code cannot build.
    """
    weights, metadata = load_tensors(path)
    try:
        spec = ModelSpec(**metadata["spec"])
        network = build_model(spec)
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, ConflictError) as error:
        problem = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a model of this code ({problem}); 'dvc repro train' writes one"
        ) from None
    return network.eval(), spec


def check_dataset(spec: ModelSpec, info: DatasetInfo) -> None:
    """Raise UserError if a model was trained on another dataset, other classes or other images."""
    for name, found, expected in (
        ("dataset", info.name, spec.dataset),
        ("classes", info.classes, spec.classes),
        ("shape", info.shape, spec.shape),
        ("picture", info.picture, spec.picture),
    ):
        if found != expected:
            raise UserError(
                f"data/processed: {name}: found {found}, expected {expected}, which the model was"
                " trained on; 'dvc repro' brings both up to date"
            )
