"""YAML settings files: reading them, and explaining what is wrong with them."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from .errors import UserError


class ParamsError(UserError):
    """A settings file that cannot be used; the message has one line per problem."""

    exit_code = 2

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        lines = problems if len(problems) == 1 else ["", *problems]
        super().__init__(f"{path}: " + "\n  ".join(lines))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises ParamsError: the file is missing, malformed or holds no mapping.
    """
    try:
        content = yaml.load(path.read_bytes(), Loader=_Yaml12Loader)
    except (FileNotFoundError, IsADirectoryError):
        problem = f"no such file; 'git checkout {path.name}' restores the default"
        raise ParamsError(path, [problem]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(path, [f"not readable as YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(content, dict):
        problem = f"found {_shorten(content)}, expected settings as 'name: value' lines"
        raise ParamsError(path, [problem])
    return content


class _Yaml12Loader(yaml.SafeLoader):
    """YAML as DVC's own parser reads it: 1e-3 is a number, duplicate keys are refused."""

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


def explain(details: ErrorDetails, model: type[BaseModel]) -> str:
    """One pydantic error as a line: the setting, what was found, what was expected."""
    setting = ".".join(str(part) for part in details["loc"])
    found, kind, message = _shorten(details["input"]), details["type"], details["msg"]
    if kind == "extra_forbidden":
        *parents, key = details["loc"]
        return f"{setting}: unknown setting{_suggestion(key, _settings_at(parents, model))}"
    if kind == "missing":
        return f"{setting}: missing"
    if kind == "conflict":
        return f"{setting}: {message}" if setting else message
    if kind == "literal_error":
        choices = re.findall(r"[^', ]+", details["ctx"]["expected"].replace(" or ", ", "))
        suggestion = _suggestion(details["input"], choices)
        return f"{setting}: found {found}, expected one of {', '.join(choices)}{suggestion}"
    return f"{setting}: found {found}, expected {message.removeprefix('Input should be ')}"


def _settings_at(parents: list[Any], block: type[BaseModel]) -> list[str]:
    """The names of the settings inside a block of params.yaml."""
    for part in parents:
        block = block.model_fields[part].annotation  # type: ignore[assignment]
    return list(block.model_fields)


def _suggestion(found: object, choices: list[str]) -> str:
    nearest = difflib.get_close_matches(str(found), choices, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _shorten(value: object) -> str:
    """A value as params.yaml would show it, in at most 60 characters."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    return text if len(text) <= 60 else text[:57] + "..."
