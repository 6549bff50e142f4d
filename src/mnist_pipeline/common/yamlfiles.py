"""YAML settings files: reading them, and explaining what is wrong with them."""

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
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

    Raises ParamsError: the file is missing, malformed or holds no mapping, or versions of YAML
    differ in what they read.
    """
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_PlainLoader)
    except (FileNotFoundError, IsADirectoryError):
        problem = f"no such file; 'git checkout {path.name}' restores the default"
        raise ParamsError(path, [problem]) from None
    except _NotPlainError as error:
        raise ParamsError(path, [str(error)]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(path, [f"not readable as YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(content, dict):
        problem = f"found {_shorten(content)}, expected settings as 'name: value' lines"
        raise ParamsError(path, [problem])
    return content


class _NotPlainError(Exception):
    """YAML that `_PlainLoader` refuses."""


class _PlainLoader(yaml.SafeLoader):
    """Read YAML that means the same in versions 1.1 and 1.2; refuse any other.

    PyYAML reads 1.1 and DVC 1.2: from `seed: 0100`, one reads 64 and the other 100.
    """

    # Of the control characters only \t, \n and \r: \x85, \u2028 and \u2029 end lines in 1.1.
    NON_PRINTABLE = re.compile(  # type: ignore[misc]
        "[^\t\n\r -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    )

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.names: list[str] = []  # of the setting that is being read, and its blocks

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Read a key (`index` is None), the value of a key, or an entry of a list."""
        event, depth = self.peek_event(), len(self.names)
        if index is not None:
            self.names.append(str(getattr(index, "value", index)))
        if isinstance(index, yaml.Node) and index.value in [key.value for key, _ in parent.value]:
            self.refuse(event, "expected it to be set once")
        if self.yaml_version or event.anchor or event.tag:
            self.refuse(event, "expected no %YAML, anchors, aliases and tags")
        node = super().compose_node(parent, index)
        if node is not None and node.tag == "unclear":
            self.refuse(event, "expected a decimal number, true, false or null, or text in quotes")
        del self.names[depth:]
        return node

    def refuse(self, event: yaml.Event, reason: str) -> NoReturn:
        """Name the setting and its line."""
        start: Any = event.start_mark
        end: Any = event.end_mark
        found = " ".join(start.buffer[start.pointer : end.pointer].split())
        name = f"{'.'.join(self.names)}: " if self.names else ""
        raise _NotPlainError(f"{name}found {found} in line {start.line + 1}, {reason}")


# In place of PyYAML's rules, those of ruamel.yaml, which DVC uses, without the unusual numbers.
_PlainLoader.yaml_implicit_resolvers = {}
for tag, plain in {
    "tag:yaml.org,2002:bool": "true|True|TRUE|false|False|FALSE",
    "tag:yaml.org,2002:null": "~|null|Null|NULL|",
    "tag:yaml.org,2002:int": "[-+]?(0|[1-9][0-9]*)",
    "tag:yaml.org,2002:float": r"""[-+]?( [0-9]+\.[0-9]*([eE][-+]?[0-9]+)? | [0-9]+[eE][-+]?[0-9]+
                                        | \.[0-9]+([eE][-+][0-9]+)? | \.inf|\.Inf|\.INF)
                                        | \.nan|\.NaN|\.NAN""",
    # Anything else that looks like a number or a date, the other booleans, merge keys.
    "unclear": r"""([0-9] | [-+.]+[0-9_]) [-+.:_\ \t0-9a-fA-FoxtTzZ]*
                   | (?i:y|n|yes|no|on|off) | <<|=""",
}.items():
    _PlainLoader.add_implicit_resolver(tag, re.compile(rf"(?:{plain})\Z", re.X), None)


def explain(
    details: ErrorDetails,
    names: Callable[..., Sequence[str]],
    others: Collection[str] = (),
) -> str:
    """One pydantic error as a line: the setting, what was found, what was expected.

    `names(*blocks)` lists the settings of a block, and `others` are known outside all blocks too;
    one of them may have been meant.
    """
    setting = ".".join(str(part) for part in details["loc"])
    found, kind, message = _shorten(details["input"]), details["type"], details["msg"]
    if kind == "extra_forbidden":
        *blocks, key = details["loc"]
        known = [*names(*blocks), *([] if blocks else others)]
        return f"{setting}: unknown setting{_suggestion(key, known)}"
    if kind == "missing":
        return f"{setting}: missing"
    if kind == "conflict":
        return f"{setting}: {message}" if setting else message
    if kind == "literal_error":
        choices = re.findall(r"[^', ]+", details["ctx"]["expected"].replace(" or ", ", "))
        suggestion = _suggestion(details["input"], choices)
        return f"{setting}: found {found}, expected one of {', '.join(choices)}{suggestion}"
    return f"{setting}: found {found}, expected {message.removeprefix('Input should be ')}"


def _suggestion(found: object, choices: Collection[str]) -> str:
    name = str(found).lower()
    name = {"gpu": "cuda"}.get(name, name)  # "cpu" is spelled more like it
    nearest = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _shorten(value: object) -> str:
    """A value as params.yaml would show it, in at most 60 characters."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    return text if len(text) <= 60 else text[:57] + "..."
