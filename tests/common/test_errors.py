"""How a script ends, as its user sees it."""

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("import torch; torch.empty(2**60)", "you tried to allocate 4611686018427387904 bytes"),
        ("import numpy; numpy.empty(2**59)", "Unable to allocate 4.00 EiB for an array"),
        ("b'a' * 2**62", "no size known"),
        ("raise RuntimeError('CUDA out of memory. Tried to')", "CUDA out of memory. Tried to"),
        ("raise OSError(12, 'Cannot allocate memory', 'a.npy')", "Cannot allocate memory: 'a.npy'"),
    ],
)
def test_memory_that_is_lacking_is_told_in_one_line(line: str, needed: str) -> None:
    found = error_of(line)
    assert found.startswith("error: too little memory, of this machine or GPU, or under a limit")
    assert needed in found
    assert found.count("\n") == 1


def test_a_path_about_memory_is_no_lack_of_memory() -> None:
    found = error_of("open('out of memory/a.npy')")
    assert found == "error: out of memory/a.npy: No such file or directory\n"
