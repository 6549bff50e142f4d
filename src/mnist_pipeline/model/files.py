"""A trained model as one file that describes itself: weights, architecture, normalization."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import CONTROL, UserError
from ..common.files import written_by
from ..splits.batches import DatasetInfo
from .losses import LOSSES
from .networks import NETWORKS
from .tensors import load_tensors, save_tensors


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build a model and to interpret its outputs."""

    model: str  # a key of NETWORKS
    settings: Mapping[str, Any]  # keyword arguments of that network
    classes: list[str]  # name of each output
    mean: float  # of pixels in [0, 1], for Normalize
    std: float
    precision: str  # of the arithmetic, float32 or bfloat16; the weights are float32
    loss: str  # a key of LOSSES, which the model was trained with
    dataset: str  # name of the dataset it was trained on
    shape: list[int]  # of an image, [C, H, W]
    picture: str  # what its images were made from, glyph or photo


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


class Model(nn.Module):
    """Normalization and a network; computes in `precision` wherever it runs."""

    def __init__(self, normalize: Normalize, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.normalize = normalize
        self.network = network
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W], uint8 or float in 0..255 → logits float32 [B, classes]."""
        low = self.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            return self.network(self.normalize(images)).float()


def build_model(spec: ModelSpec, seed: int = 0) -> Model:
    """Build a model with random weights. Seeds torch's global generator with `seed`."""
    torch.manual_seed(seed)
    network = NETWORKS[spec.model](spec.shape, len(spec.classes), **spec.settings)
    model = Model(Normalize(spec.mean, spec.std), network, spec.precision)
    # The memory format of convolution weights that is fastest on CPUs and tensor cores.
    return model.to(memory_format=torch.channels_last)


def save_model(
    path: Path, model: nn.Module, spec: ModelSpec, environment: Mapping[str, Any]
) -> None:
    """Write weights, spec and `arithmetic.environment`, which the model was trained in."""
    metadata = {"spec": asdict(spec), "environment": dict(environment)}
    save_tensors(path, model.state_dict(), metadata)


def load_model(path: Path) -> tuple[Model, ModelSpec]:
    """Load a model file: the model, on the CPU and in evaluation mode, and its spec.

    Raises UserError: missing or damaged file, or a model that this code cannot build.
    """
    try:
        weights, metadata = load_tensors(path)
    except UserError as error:
        advice = f"; {written_by('train', path)}" if _is_out(path) else ""
        raise UserError(f"{error}{advice}") from None
    try:
        spec = ModelSpec(**metadata["spec"])
        if any(map(CONTROL.search, spec.classes)):  # who prints a prediction would print them
            raise ValueError("control characters in the names of classes")
        model = build_model(spec)
        model.load_state_dict(weights)
        LOSSES[spec.loss]  # whoever uses the model needs it
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, UserError) as error:
        problem = " ".join(str(error).split())
        advice = "; 'dvc repro train' writes one" if _is_out(path) else ""
        raise UserError(
            f"{path}: a model of an earlier version or of other code ({problem:.120}){advice}"
        ) from None
    return model.eval(), spec


def _is_out(path: Path) -> bool:
    """Whether the train stage writes the file, which a user may have named instead."""
    is_named_so = path.parts[-2:] == ("models", "model.safetensors")
    return is_named_so and (path.parents[1] / "dvc.yaml").exists()


def check_dataset(
    spec: ModelSpec, info: DatasetInfo, advice: str = "'dvc repro' brings both up to date"
) -> None:
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
                f" trained on; {advice}"
            )
