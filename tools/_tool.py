"""First import of every tool: the same as for a stage."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))

from _stage import ROOT, refuse_links

__all__ = ["ROOT", "refuse_links"]
