"""First import of every tool: the same as for a stage, and a name for a user without one."""

import getpass
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))

from _stage import ROOT, refuse_links

try:
    getpass.getuser()
except (ImportError, KeyError, OSError):  # no entry in passwd, as in a container; DVC would fail
    os.environ["LOGNAME"] = "nobody"

__all__ = ["ROOT", "refuse_links"]
