"""First import of every tool: the same as for a stage, and what a tool needs beyond that."""

import getpass
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))

from _stage import ROOT, refuse_links

try:
    getpass.getuser()
except (ImportError, KeyError, OSError):  # no entry in passwd, as in a container; DVC would fail
    os.environ["LOGNAME"] = "nobody"

# In a hook, Git names its repository by variables that also hold for Git in any other folder, such
# as a clone. Without them, Git finds the repository of the folder it runs in.
with suppress(OSError):  # no Git
    _list = ["git", "rev-parse", "--local-env-vars"]
    for _name in subprocess.run(_list, capture_output=True, encoding="utf-8").stdout.split():
        if not _name.startswith("GIT_CONFIG_"):  # settings, which hold in any repository
            os.environ.pop(_name, None)


def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught error: in one line if a package is missing that is not the project's."""
    if isinstance(error, ModuleNotFoundError) and not is_ours(error.name or ""):
        hint = "'make env' installs the packages of all tools and extras"
        print(f"error: {error.name}: no such package; {hint}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def is_ours(module: str) -> bool:
    """Whether a module is of this project, so that its absence is a fault of the code."""
    name = module.partition(".")[0]
    folders = [ROOT, *(ROOT / each for each in ("src", "stages", "tools")), *ROOT.glob("extras/*/")]
    return any(path.exists() for each in folders for path in (each / name, each / f"{name}.py"))


sys.excepthook = explain  # for a .venv that lacks the packages of this tool's target

__all__ = ["ROOT", "refuse_links"]
