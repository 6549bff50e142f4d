"""Errors for the person at the keyboard, and where a stage turns them into an exit code."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper
from types import FrameType


class UserError(Exception):
    """Something its reader can put right.

    The message names the file or setting, what was found, what was expected and what to do.
    """

    exit_code = 1


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main`; a UserError, an OSError or Ctrl-C ends it with a line, no traceback."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log shows lines as they are printed
    signal.signal(signal.SIGINT, _interrupted)
    gc.freeze()  # what was imported stays: looking through it for garbage took 0.3 s at the end
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # full disk, read-only folder, ...
        print(f"error: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


def _interrupted(signum: int, frame: FrameType | None) -> None:
    """End at once, as a kill would: what is half-written has a temporary name.

    No KeyboardInterrupt: raised within a library, it is at times printed with a traceback, or lost.
    """
    os.write(2, b"\ninterrupted\n" if os.isatty(2) else b"interrupted\n")
    os._exit(130)
