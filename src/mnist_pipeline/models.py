"""The classifiers, and the file that describes one completely.

A classifier takes images uint8 [B, 1, 28, 28] and gives logits float32 [B, C]: there is no softmax
in forward, because the losses contain it. To add a model: a function here, in MODELS, and its
settings in params.py and params.yaml.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import UserError
from .tensorfiles import load_tensors, save_tensors

PIXELS = 28 * 28

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}


class Normalize(nn.Module):
    """Pixels 0..255 → float32 (pixel / 255 - mean) / std, on the device the images are on."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / (255 * std)), persistent=False)
        self.register_buffer("shift", torch.tensor(-mean / std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8, any shape → float32, the same shape."""
        return images.float().mul_(self.scale).add_(self.shift)


def mlp(num_classes: int, hidden_sizes: list[int], activation: str, dropout: float) -> nn.Module:
    """The tutorial's multi-layer perceptron: 784 → each hidden size → `num_classes`."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [PIXELS, *hidden_sizes]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(sizes[-1], num_classes))
    return nn.Sequential(*layers)


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp}


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build a classifier, and to say what its outputs mean."""

    model: str  # a key of MODELS
    settings: Mapping[str, Any]  # its arguments
    classes: list[str]  # the name of each output
    mean: float  # of the pixels in [0, 1], for Normalize
    std: float
    loss: str  # what it was trained with, see losses.py
    dataset: str  # whose training split


def build_model(spec: ModelSpec, seed: int = 0) -> nn.Sequential:
    """A classifier with fresh weights, drawn from torch's global generator, seeded by `seed`."""
    torch.manual_seed(seed)
    body = MODELS[spec.model](num_classes=len(spec.classes), **spec.settings)
    return nn.Sequential(Normalize(spec.mean, spec.std), body)


def save_model(path: Path, model: nn.Module, spec: ModelSpec, engine: Mapping[str, Any]) -> None:
    """Write weights and spec; `engine` is a record of what else shaped the weights."""
    weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    save_tensors(path, weights, {"spec": asdict(spec), "engine": dict(engine)})


def load_model(path: Path) -> tuple[nn.Sequential, ModelSpec]:
    """The classifier in `path`, on the CPU and in evaluation mode, and its spec.

    Raises UserError: missing or damaged file, or no model that this code can build.
    """
    weights, header = load_tensors(path, made_by="train")
    try:
        spec = ModelSpec(**header["spec"])
        model = build_model(spec)
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        problem = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a model of this code ({problem}); 'dvc repro train' writes one"
        ) from None
    return model.eval(), spec
