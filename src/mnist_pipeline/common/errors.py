"""Errors that the user can fix, and how a script turns them into an exit code."""

import errno
import gc
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""A character that ends a line, controls a terminal or turns the direction of a text."""


class UserError(Exception):
    """An error that the user can fix.

    The message names the file or setting, what was found, what was expected and what to do.
    """

    exit_code = 1


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; UserError, OSError, too little memory or Ctrl-C end it with one line.

    A closed pipe, as in `... | head -1`, ends it without one, with the exit code that `cat` has.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # Show each line of a log at once; escape what is not in the encoding, on Windows cp1252.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    signal.signal(signal.SIGINT, _interrupted)
    gc.freeze()  # skip the imported modules: collecting them at exit took 0.3 s
    try:
        main()
    except UserError as error:
        _report(str(error))
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError, OSError) as error:
        if _lacks_memory(error):
            _report(
                "too little memory, of this machine or GPU, or under a limit such as ulimit -v"
                f" ({_line(error)}); a smaller batch_size, network or image_size needs less"
            )
        elif isinstance(error, BrokenPipeError) and _is_unread():
            os._exit(128 + 13)  # SIGPIPE; at once, as the flush at exit would fail again
        elif isinstance(error, OSError):  # full disk, read-only folder, ...
            _report(f"{error.filename or 'writing'}: {error.strerror or error}")
        else:
            raise
        sys.exit(1)


def printable(text: str) -> str:
    """Escape what would do more to a terminal than to be shown, as a file's name may hold it."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _lacks_memory(error: Exception) -> bool:
    """Whether memory was lacking; torch has no exception of its own for that on a CPU."""
    if isinstance(error, OSError):  # its text holds a path, which may say anything
        return error.errno == errno.ENOMEM
    lacks = re.search("can(no|')t allocate memory|out of memory", str(error), re.IGNORECASE)
    return isinstance(error, MemoryError) or lacks is not None


def _line(error: Exception) -> str:
    """The end of an error's first line, where torch and NumPy say how much they asked for."""
    return str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2] or "no size known"


def _is_unread() -> bool:
    """Whether stdout is the broken pipe, and not one to another process: try an empty line."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def _report(message: str) -> None:
    """Print an error; under torchrun also tell it, so that its own report ends with the message.

    Source: torch/distributed/elastic/multiprocessing/errors
    """
    message = "\n".join(map(printable, message.split("\n")))
    print(f"error: {message}", file=sys.stderr)
    if report := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        content = json.dumps({"message": message, "timestamp": int(time.time())})
        with suppress(OSError):
            Path(report).write_text(content, "utf-8")


def _interrupted(signum: int, frame: FrameType | None) -> None:
    """Exit at once, as after a SIGKILL: half-written files still have temporary names.

    A KeyboardInterrupt raised inside a library is sometimes lost or printed with a traceback.
    """
    os.write(2, b"\ninterrupted\n" if os.isatty(2) else b"interrupted\n")
    os._exit(130)
