"""The search on whatever system this is: no test here drives make."""

import subprocess
import sys

from tests.conftest import ROOT


def test_it_starts() -> None:
    command = [sys.executable, str(ROOT / "extras/search/search.py"), "--help"]
    assert (
        "database URL" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
