"""params.yaml, typed and checked. This is its only reader.

Each class named after a stage holds exactly the settings that this stage may read; dvc.yaml lists
the same ones, save those of `NOT_INPUTS`. To add a setting: a field here, a line in params.yaml,
and its name below the stage in dvc.yaml.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from .yamlfiles import ParamsError, explain, read_yaml

NOT_INPUTS = {"mirrors", "num_workers", "log_every"}
"""Settings that change how a stage works and never what it writes, so DVC need not know them."""

BLOCKS = {
    "model": "models",
    "augmentation": "augmentations",
    "optimizer": "optimizers",
    "schedule": "schedules",
}
"""A choice, and the block that holds the settings of each of its kind."""

NO_FOLDER = "data/none"
"""The setting `folder` of the datasets that have none: a file that never changes."""


class Settings(BaseModel):
    """Settings that take no unknown keys, no NaN or infinity, and no text in place of a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def key_of(block: type[Settings]) -> AfterValidator:
    """Accept only the name of one of `block`'s fields."""

    def check(name: str) -> str:
        if name not in block.model_fields:
            choices = ", ".join(f"'{key}'" for key in block.model_fields)
            raise PydanticCustomError("choice", "expected {expected}", {"expected": choices})
        return name

    return AfterValidator(check)


def launches(line: str) -> str:
    """Accept only a command line of python or torchrun."""
    if line.partition(" ")[0] not in ("python", "torchrun"):
        raise PydanticCustomError("launcher", "python, or torchrun and its options")
    return line


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=2**31)]
Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "gelu"]
Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class Mlp(Settings):
    """The multi-layer perceptron's shape."""

    hidden_sizes: list[Annotated[int, Field(ge=1, le=2**20)]]
    activation: Activation
    dropout: Fraction


class Cnn(Settings):
    """The convolutional network's shape."""

    # Each block halves the side, 28 → 14 → 7 → 3: there is no room for a fourth.
    channels: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=1)]],
        Field(min_length=1, max_length=3),
    ]
    kernel_size: Literal[1, 3, 5, 7, 9]
    pooling: Literal["max", "average"]
    pool_after: Literal["first", "last"]
    batch_norm: bool
    activation: Activation
    dropout: Fraction
    head: list[Annotated[int, Field(ge=1, le=2**20)]]


class Models(Settings):
    """A field a model."""

    mlp: Mlp
    cnn: Cnn


class NoAugmentation(Settings):
    """The images as they are."""


class Affine(Settings):
    """Each image turned, moved, stretched and slanted by draws from ±these ranges."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    translation: Annotated[float, Field(ge=0, le=28)]
    scale: Fraction
    shear: Annotated[float, Field(ge=0, lt=90)]


class Augmentations(Settings):
    """A field an augmentation."""

    none: NoAugmentation
    affine: Affine


class Sgd(Settings):
    """torch.optim.SGD."""

    lr: Positive
    momentum: Fraction
    nesterov: bool
    weight_decay: NotNegative

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "Sgd":
        if self.nesterov and self.momentum == 0:
            raise PydanticCustomError("conflict", "nesterov: true needs a momentum above 0")
        return self


class Adam(Settings):
    """torch.optim.Adam and AdamW."""

    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NotNegative


class RmsProp(Settings):
    """torch.optim.RMSprop."""

    lr: Positive
    alpha: Fraction
    eps: Positive
    momentum: Fraction
    weight_decay: NotNegative


class Optimizers(Settings):
    """A field an optimizer."""

    sgd: Sgd
    adam: Adam
    adamw: Adam
    rmsprop: RmsProp


class Constant(Settings):
    """The learning rate stays."""


class Step(Settings):
    """The learning rate is multiplied by `gamma` every `step_size` epochs."""

    step_size: Count
    gamma: Annotated[float, Field(gt=0, le=1)]


class Cosine(Settings):
    """The learning rate falls to `eta_min` along half a cosine."""

    eta_min: NotNegative


class OneCycle(Settings):
    """The learning rate rises to the optimizer's `lr` and falls again."""

    pct_start: Annotated[float, Field(gt=0, lt=1)]
    div_factor: Annotated[float, Field(ge=1)]
    final_div_factor: Annotated[float, Field(ge=1)]


class Schedules(Settings):
    """A field a schedule."""

    constant: Constant
    step: Step
    cosine: Cosine
    one_cycle: OneCycle


class DownloadParams(Settings):
    """What the download stage reads."""

    dataset: Literal["mnist", "fashion_mnist", "kmnist", "qmnist", "digits", "folder"]
    folder: Annotated[str, Field(min_length=1)]
    mirrors: list[str]


class PreprocessParams(Settings):
    """What the preprocess stage reads."""

    validation_fraction: Annotated[float, Field(ge=0, le=0.9)]


class EvaluateParams(Settings):
    """What the evaluate stage reads."""

    device: Literal["auto", "cpu", "cuda", "mps"]


class TrainParams(Settings):
    """What the train stage reads."""

    model: Annotated[str, key_of(Models)]
    normalization: Literal["symmetric", "standard"]
    augmentation: Annotated[str, key_of(Augmentations)]
    loss: Literal["cross_entropy", "nll", "mse", "bce"]
    label_smoothing: Fraction
    optimizer: Annotated[str, key_of(Optimizers)]
    schedule: Annotated[str, key_of(Schedules)]
    epochs: Count
    batch_size: Count
    shuffle: Literal[True, False, "blocks"]
    keep: Literal["last", "best"]
    ensemble: Annotated[int, Field(ge=1, le=1000)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["float32", "bfloat16"]
    launcher: Annotated[str, AfterValidator(launches)]
    num_workers: Annotated[int, Field(ge=0, le=256)]
    log_every: Count
    models: Models
    augmentations: Augmentations
    optimizers: Optimizers
    schedules: Schedules

    def inputs(self) -> dict[str, Any]:
        """All that shapes the result: of the blocks, the chosen ones alone.

        Of the launcher that is the number of processes, see runtime.engine: each host has its own
        line.
        """
        flat = self.model_dump(exclude=NOT_INPUTS | {"launcher"} | set(BLOCKS.values()))
        return flat | {block: self.chosen(choice) for choice, block in BLOCKS.items()}

    def chosen(self, choice: str) -> dict[str, Any]:
        """The settings of the chosen model, augmentation, optimizer or schedule."""
        return getattr(getattr(self, BLOCKS[choice]), getattr(self, choice)).model_dump()


class Params(DownloadParams, PreprocessParams, TrainParams, EvaluateParams):
    """The whole of params.yaml."""

    @model_validator(mode="after")
    def _folder_is_of_one_dataset(self) -> "Params":
        if (self.dataset == "folder") == (self.folder == NO_FOLDER):
            raise PydanticCustomError(
                "conflict",
                "dataset: folder needs a folder of pictures, and any other dataset folder:"
                " {none}; found dataset: {dataset}, folder: {folder}",
                {"none": NO_FOLDER, "dataset": self.dataset, "folder": self.folder},
            )
        return self

    @model_validator(mode="after")
    def _best_needs_validation(self) -> "Params":
        if self.keep == "best" and self.validation_fraction == 0:
            raise PydanticCustomError(
                "conflict",
                "keep: best chooses by validation loss and needs a validation_fraction above 0",
            )
        return self


Stage = TypeVar("Stage", bound=Settings)


def read_params(path: Path, stage: type[Stage]) -> Stage:
    """Check the whole of `path` and return the settings of one stage.

    Raises ParamsError: missing file, malformed YAML, or any unknown, missing or wrong setting.
    """
    content = read_yaml(path)
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(path, [explain(details, Params) for details in error.errors()]) from None
    return stage.model_validate(params.model_dump(include=set(stage.model_fields)))
