"""params.yaml, typed and validated. No other module reads it.

The class of a stage holds exactly the settings that the stage may read, and dvc.yaml lists them
all, except `NOT_INPUTS`. To add a setting: a field here, a line in params.yaml, and its name under
the stage's params in dvc.yaml.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .yamlfiles import ParamsError, explain, read_yaml

NOT_INPUTS = {"mirrors", "num_workers", "log_every"}
"""Settings that never change what a stage writes, so DVC does not track them."""

BLOCKS = {
    "model": "models",
    "augmentation": "augmentations",
    "optimizer": "optimizers",
    "schedule": "schedules",
}
"""Each choice, and the block with one entry of settings per option."""

NO_FOLDER = "data/none"
"""Value of `folder` when the dataset is not a folder: a file that never changes."""


class Settings(BaseModel):
    """Base of all settings: no unknown keys, no NaN or infinity, no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def check_launcher(line: str) -> str:
    """Accept any command line that is not blank."""
    if not line.strip():
        raise PydanticCustomError("launcher", "a command, such as python")
    return line


def check_threads(threads: object) -> object:
    """Accept only "auto" and integers from 1 to 1024."""
    if threads != "auto" and not (type(threads) is int and 1 <= threads <= 1024):
        raise PydanticCustomError("threads", "auto, or a number of threads from 1 to 1024")
    return threads


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=2**31)]
Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "gelu"]
Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class NoSettings(Settings):
    """An option without settings of its own."""


class Mlp(Settings):
    """Architecture of the multilayer perceptron."""

    hidden_sizes: list[Annotated[int, Field(ge=1, le=2**20)]]
    activation: Activation
    dropout: Fraction


class Cnn(Settings):
    """Architecture of the convolutional network."""

    channels: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=1)]],
        Field(min_length=1),
    ]
    kernel_size: Literal[1, 3, 5, 7, 9]
    pooling: Literal["max", "average"]
    pool_after: Literal["first", "last"]
    batch_norm: bool
    activation: Activation
    dropout: Fraction
    head: list[Annotated[int, Field(ge=1, le=2**20)]]


class Models(Settings):
    """One field per model."""

    mlp: Mlp
    cnn: Cnn


class Affine(Settings):
    """Random affine transforms; each range is symmetric around zero."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    translation: NotNegative
    scale: Fraction
    shear: Annotated[float, Field(ge=0, lt=90)]


class Augmentations(Settings):
    """One field per augmentation."""

    none: NoSettings
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
    """One field per optimizer."""

    sgd: Sgd
    adam: Adam
    adamw: Adam
    rmsprop: RmsProp


class Step(Settings):
    """Learning rate multiplied by `gamma` every `step_size` epochs."""

    step_size: Count
    gamma: Annotated[float, Field(gt=0, le=1)]


class Cosine(Settings):
    """Cosine annealing from the optimizer's `lr` to `eta_min`."""

    eta_min: NotNegative


class OneCycle(Settings):
    """One-cycle policy; the optimizer's `lr` is the peak."""

    pct_start: Annotated[float, Field(gt=0, lt=1)]
    div_factor: Annotated[float, Field(ge=1)]
    final_div_factor: Annotated[float, Field(ge=1)]


class Schedules(Settings):
    """One field per schedule."""

    constant: NoSettings
    step: Step
    cosine: Cosine
    one_cycle: OneCycle


class DownloadParams(Settings):
    """Settings of the download stage."""

    dataset: Literal["mnist", "fashion_mnist", "kmnist", "qmnist", "digits", "folder"]
    folder: Annotated[str, Field(min_length=1)]
    picture: Literal["glyph", "photo"]
    image_size: Annotated[int, Field(ge=8, le=512)]
    channels: Literal[1, 3]
    mirrors: list[str]


class PreprocessParams(Settings):
    """Settings of the preprocess stage."""

    validation_fraction: Annotated[float, Field(ge=0, le=0.9)]


class HardwareParams(Settings):
    """Settings of the arithmetic, which train and evaluate share."""

    arithmetic: Literal["portable", "native"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: Annotated[int | Literal["auto"], BeforeValidator(check_threads)]


class EvaluateParams(HardwareParams):
    """Settings of the evaluate stage."""


class TrainParams(HardwareParams):
    """Settings of the train stage."""

    model: Literal["mlp", "cnn"]
    normalization: Literal["symmetric", "standard"]
    augmentation: Literal["none", "affine"]
    loss: Literal["cross_entropy", "nll", "mse", "bce"]
    label_smoothing: Fraction
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"]
    schedule: Literal["constant", "step", "cosine", "one_cycle"]
    epochs: Count
    batch_size: Count
    shuffle: bool
    keep: Literal["last", "best"]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    precision: Literal["auto", "float32", "bfloat16"]
    launcher: Annotated[str, AfterValidator(check_launcher)]
    num_workers: Annotated[int, Field(ge=0, le=256)]
    log_every: Count
    models: Models
    augmentations: Augmentations
    optimizers: Optimizers
    schedules: Schedules

    def inputs(self) -> dict[str, Any]:
        """Every setting that affects the result, with the chosen entry of each block.

        The launcher is left out, because it may differ from host to host; `runtime.environment`
        records the number of processes.
        """
        flat = self.model_dump(exclude=NOT_INPUTS | {"launcher"} | set(BLOCKS.values()))
        return flat | {block: self.chosen(choice) for choice, block in BLOCKS.items()}

    def chosen(self, choice: str) -> dict[str, Any]:
        """Settings of the chosen model, augmentation, optimizer or schedule."""
        return getattr(getattr(self, BLOCKS[choice]), getattr(self, choice)).model_dump()


class Params(DownloadParams, PreprocessParams, TrainParams, EvaluateParams):
    """All settings of params.yaml."""

    @model_validator(mode="after")
    def _folder_needs_dataset_folder(self) -> "Params":
        if (self.dataset == "folder") == (self.folder == NO_FOLDER):
            raise PydanticCustomError(
                "conflict",
                "dataset: folder needs a folder of pictures, and any other dataset folder:"
                " {none}; found dataset: {dataset}, folder: {folder}",
                {"none": NO_FOLDER, "dataset": self.dataset, "folder": self.folder},
            )
        return self

    @model_validator(mode="after")
    def _photo_needs_dataset_folder(self) -> "Params":
        if self.picture == "photo" and self.dataset != "folder":
            raise PydanticCustomError(
                "conflict",
                "picture: photo needs dataset: folder; found dataset: {dataset}",
                {"dataset": self.dataset},
            )
        if self.picture == "glyph" and (self.image_size, self.channels) != (28, 1):
            raise PydanticCustomError(
                "conflict",
                "a glyph has image_size: 28 and channels: 1; found image_size: {size}, channels:"
                " {channels}, which need picture: photo",
                {"size": self.image_size, "channels": self.channels},
            )
        return self

    @model_validator(mode="after")
    def _blocks_fit_the_image(self) -> "Params":
        # Batch normalization cannot train on a batch of one image of one pixel.
        blocks, most = len(self.models.cnn.channels), self.image_size.bit_length() - 2
        if blocks > most:
            raise PydanticCustomError(
                "conflict",
                "models.cnn.channels: found {blocks} blocks, expected at most {most}: each halves"
                " the image, and image_size: {size} has to leave 2 pixels per side",
                {"blocks": blocks, "most": most, "size": self.image_size},
            )
        return self

    @model_validator(mode="after")
    def _translation_stays_in_the_image(self) -> "Params":
        translation = self.augmentations.affine.translation
        if translation > self.image_size:
            raise PydanticCustomError(
                "conflict",
                "augmentations.affine.translation: found {translation}, expected at most"
                " image_size: {size}",
                {"translation": translation, "size": self.image_size},
            )
        return self

    @model_validator(mode="after")
    def _best_needs_validation(self) -> "Params":
        if self.keep == "best" and self.validation_fraction == 0:
            raise PydanticCustomError(
                "conflict",
                "keep: best selects by validation loss and needs a validation_fraction above 0",
            )
        return self


Stage = TypeVar("Stage", bound=Settings)


def read_params(path: Path, stage: type[Stage]) -> Stage:
    """Validate all of `path` and return the settings of one stage.

    Raises ParamsError: missing file, malformed YAML, or any unknown, missing or wrong setting.
    """
    content = read_yaml(path)
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(path, [explain(details, Params) for details in error.errors()]) from None
    return stage.model_validate(params.model_dump(include=set(stage.model_fields)))
