"""Settings of params.yaml: their types, and how a stage reads and explains its own.

Nothing here knows a setting. A stage declares its settings in a class; an option, such as an
optimizer, declares them as the keyword-only parameters of the function or class that builds it.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from .errors import UserError
from .yamlfiles import ParamsError, explain, read_yaml

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=2**31)]


class ConflictError(UserError):
    """Settings that are valid one by one, but do not fit together or do not fit the data."""

    exit_code = 2


@dataclass(frozen=True)
class OneOf:
    """Annotates the name of an option: a key of `options`."""

    options: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept the keys of `options`."""
        return core_schema.literal_schema([*self.options])


@dataclass(frozen=True)
class Blocks:
    """Annotates the settings of every option: a block per key of `options`."""

    options: Mapping[str, Callable[..., Any]]

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept exactly the settings of every option."""
        return _exactly(
            {
                name: _exactly(
                    {key: handler.generate_schema(kind) for key, kind in parameters(option).items()}
                )
                for name, option in self.options.items()
            }
        )


def _exactly(fields: Mapping[str, CoreSchema]) -> CoreSchema:
    """Schema of a dict with these keys and no others."""
    typed = {name: core_schema.typed_dict_field(schema) for name, schema in fields.items()}
    config = core_schema.CoreConfig(strict=True, allow_inf_nan=False)
    return core_schema.typed_dict_schema(typed, extra_behavior="forbid", config=config)


def parameters(option: Callable[..., Any]) -> dict[str, Any]:
    """Settings of an option, its keyword-only parameters: each name and its annotated type."""
    function = option.__init__ if inspect.isclass(option) else option
    hints = get_type_hints(function, include_extras=True)
    return {
        name: hints[name]
        for name, parameter in inspect.signature(option).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


class Settings(BaseModel):
    """Base of all settings: no unknown keys, no NaN or infinity, no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @classmethod
    def choices(cls) -> dict[str, str]:
        """Each setting that names an option, and its blocks: {"optimizer": "optimizers", ...}."""
        return {name: f"{name}s" for name in cls.model_fields if f"{name}s" in cls.model_fields}

    def block(self, choice: str) -> dict[str, Any]:
        """Settings of the option that `choice` names: `block("optimizer")`, of the optimizer."""
        return getattr(self, self.choices()[choice])[getattr(self, choice)]

    @classmethod
    def names(cls, *blocks: Any) -> list[str]:
        """Names of the settings, or of those in a block: `names("optimizers", "sgd")`."""
        if not blocks:
            return list(cls.model_fields)
        for note in cls.model_fields[blocks[0]].metadata:
            if isinstance(note, Blocks):
                options = note.options
                return list(options) if len(blocks) == 1 else list(parameters(options[blocks[1]]))
        return []


Stage = TypeVar("Stage", bound=Settings)


def read_settings(path: Path, stage: type[Stage]) -> Stage:
    """Read and validate the settings of one stage in `path`, a params.yaml.

    Settings of other stages, which the dvc.yaml beside it lists, are not looked at. Raises
    ParamsError, which lists all problems: a missing file, malformed YAML, a setting that is missing
    or has a wrong value, or one that no stage has.
    """
    content = read_yaml(path)
    others = _names_in_pipeline(path.with_name("dvc.yaml")) - set(stage.model_fields)
    try:
        return stage.model_validate({k: v for k, v in content.items() if k not in others})
    except ValidationError as error:
        problems = [explain(details, stage.names, others) for details in error.errors()]
        raise ParamsError(path, problems) from None


def _names_in_pipeline(dvc_yaml: Path) -> set[str]:
    """Names of the settings of all stages: those that a dvc.yaml tracks, and `meta: untracked`."""
    if not dvc_yaml.is_file():
        return set()
    names: list[object] = []
    try:
        for stage in yaml.safe_load(dvc_yaml.read_text("utf-8"))["stages"].values():
            names += [*(stage.get("params") or ()), *(stage.get("meta") or {}).get("untracked", ())]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = " ".join(str(error).split())
        raise ParamsError(dvc_yaml, [f"not a pipeline of DVC ({problem})"]) from None
    return {name.partition(".")[0] for name in names if isinstance(name, str)}
