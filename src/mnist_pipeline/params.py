"""params.yaml, typed and checked. This is its only reader.

Each class named after a stage holds exactly the settings that this stage may read; dvc.yaml lists
the same ones, save those of `NOT_INPUTS`. To add a setting: a field here, a line in params.yaml,
and its name below the stage in dvc.yaml.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from .errors import UserError

NOT_INPUTS = {"mirrors", "num_workers", "log_every"}
"""Settings that change how a stage works and never what it writes, so DVC need not know them."""


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


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=2**31)]
Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class Mlp(Settings):
    """The multi-layer perceptron's shape."""

    hidden_sizes: list[Annotated[int, Field(ge=1, le=2**20)]]
    activation: Literal["relu", "tanh", "sigmoid", "leaky_relu", "gelu"]
    dropout: Fraction


class Models(Settings):
    """A field a model."""

    mlp: Mlp


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

    dataset: Literal["mnist", "fashion_mnist", "kmnist", "qmnist", "digits"]
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
    loss: Literal["cross_entropy", "nll", "mse", "bce"]
    optimizer: Annotated[str, key_of(Optimizers)]
    schedule: Annotated[str, key_of(Schedules)]
    epochs: Count
    batch_size: Count
    shuffle: bool
    keep: Literal["last", "best"]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    device: Literal["auto", "cpu", "cuda", "mps"]
    num_workers: Annotated[int, Field(ge=0, le=256)]
    log_every: Count
    models: Models
    optimizers: Optimizers
    schedules: Schedules

    def inputs(self) -> dict[str, Any]:
        """All that shapes the result: of the blocks, the chosen ones alone."""
        return self.model_dump(exclude=NOT_INPUTS | {"models", "optimizers", "schedules"}) | {
            "model_settings": self.model_settings,
            "optimizer_settings": self.optimizer_settings,
            "schedule_settings": self.schedule_settings,
        }

    @property
    def model_settings(self) -> dict[str, Any]:
        """The chosen model's block."""
        return getattr(self.models, self.model).model_dump()

    @property
    def optimizer_settings(self) -> dict[str, Any]:
        """The chosen optimizer's block."""
        return getattr(self.optimizers, self.optimizer).model_dump()

    @property
    def schedule_settings(self) -> dict[str, Any]:
        """The chosen schedule's block."""
        return getattr(self.schedules, self.schedule).model_dump()


class Params(DownloadParams, PreprocessParams, TrainParams, EvaluateParams):
    """The whole of params.yaml."""

    @model_validator(mode="after")
    def _best_needs_validation(self) -> "Params":
        if self.keep == "best" and self.validation_fraction == 0:
            raise PydanticCustomError(
                "conflict",
                "keep: best chooses by validation loss and needs a validation_fraction above 0",
            )
        return self


class ParamsError(UserError):
    """params.yaml can't be used as it is; the message has a line for each problem."""

    exit_code = 2


Stage = TypeVar("Stage", bound=Settings)


def read_params(path: Path, stage: type[Stage]) -> Stage:
    """Check the whole of `path` and return the settings of one stage.

    Raises ParamsError: missing file, malformed YAML, or any unknown, missing or wrong setting.
    """
    try:
        content = yaml.load(path.read_bytes(), Loader=_Yaml12Loader)
    except (FileNotFoundError, IsADirectoryError):
        raise ParamsError(
            f"{path}: no such file; 'git checkout {path.name}' brings the default back"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: not readable as YAML: {_one_line(error)}") from None
    if not isinstance(content, dict):
        raise ParamsError(
            f"{path}: found {_shown(content)}, expected settings as 'name: value' lines"
        )
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors()]
        raise ParamsError(f"{path}:\n" + "\n".join(f"  {line}" for line in problems)) from None
    return stage.model_validate(params.model_dump(include=set(stage.model_fields)))


class _Yaml12Loader(yaml.SafeLoader):
    """YAML as DVC's own parser reads it: 1e-3 is a number, and a key stands once in a map."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"'{key.value}' is set a second time in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),  # YAML 1.2, 10.3.2
    list("-+.0123456789"),
)


def _problem(details: ErrorDetails) -> str:
    """One line: the setting, what was found, what was expected."""
    setting = ".".join(str(part) for part in details["loc"])
    found, kind, message = _shown(details["input"]), details["type"], details["msg"]
    if kind == "extra_forbidden":
        *parents, key = details["loc"]
        return f"{setting}: unknown setting{_suggestion(key, _settings_at(parents))}"
    if kind == "missing":
        return f"{setting}: missing"
    if kind == "conflict":
        return f"{setting}: {message}" if setting else message
    if kind in ("choice", "literal_error"):
        choices = re.findall(r"'([^']*)'", details["ctx"]["expected"])
        suggestion = _suggestion(details["input"], choices)
        return f"{setting}: found {found}, expected one of {', '.join(choices)}{suggestion}"
    return f"{setting}: found {found}, expected {message.removeprefix('Input should be ')}"


def _settings_at(parents: list[Any]) -> list[str]:
    """The names that may stand at a place in params.yaml."""
    block: type[Settings] = Params
    for part in parents:
        block = block.model_fields[part].annotation  # type: ignore[assignment]
    return list(block.model_fields)


def _suggestion(found: object, choices: list[str]) -> str:
    nearest = difflib.get_close_matches(str(found), choices, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _shown(value: object) -> str:
    """A value as it might stand in params.yaml, cut short."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
