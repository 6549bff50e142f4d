"""How a script ends, as its user sees it."""

import subprocess
import sys

from ..conftest import ROOT

SCRIPT = """
import sys
from mnist_pipeline.common.errors import UserError, run_script

def main():
    {}

run_script(main)
"""


def error_of(line: str) -> str:
    """What a script prints that runs this line; it exits with 1."""
    command = [sys.executable, "-c", SCRIPT.format(line)]
    done = subprocess.run(
        command, cwd=ROOT / "src", stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
    )
    assert done.returncode == 1
    return done.stderr


def test_a_name_cannot_control_the_terminal() -> None:
    found = error_of(r"raise UserError('2 names:\n  \33[2Ja\tb\x9b1m\u202ec.png: \u05d0\u200dé')")
    assert found == "error: 2 names:\n" r"  \x1b[2Ja\tb\x9b1m\u202ec.png: " "\u05d0\u200dé\n"
