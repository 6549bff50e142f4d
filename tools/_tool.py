"""First import of every tool: the same as for a stage, and what a tool needs beyond that."""

import getpass
import os
import sys
from pathlib import Path
from types import TracebackType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))

from _stage import ROOT, refuse_links

try:
    getpass.getuser()
except (ImportError, KeyError, OSError):  # no entry in passwd, as in a container; DVC would fail
    os.environ["LOGNAME"] = "nobody"


def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught error: in one line if a package is missing."""
    if isinstance(error, ModuleNotFoundError):
        hint = "'make env' installs the packages of all tools and extras"
        print(f"error: {error.name}: no such package; {hint}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = explain  # for a .venv that lacks the packages of this tool's target

__all__ = ["ROOT", "refuse_links"]
