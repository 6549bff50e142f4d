"""Run scripts as Windows would, as far as Linux can tell: python windows.py "SCRIPT ARGUMENT..."

- modules, functions, constants and signals that only POSIX has are missing;
- folders cannot be opened, and a file is flushed only through a descriptor that may write;
- a file that is open or memory-mapped can be neither replaced nor removed;
- text is written with \\r\\n unless `newline` says otherwise, and standard output is in cp1252;
- this project's files may not rely on the default encoding, which is not UTF-8 there.
"""

import builtins
import errno
import fcntl
import importlib
import io
import os
import runpy
import shlex
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARIES = ("pandas", "platformdirs", "sklearn.datasets", "sklearn.model_selection", "torch")
"""What chooses its own way on Windows when it is imported: imported before the changes."""

POSIX_MODULES = (
    "crypt", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios",
    "tty",
)  # fmt: skip
POSIX_NAMES = (
    "chown", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups",
    "getloadavg", "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "killpg", "lchown",
    "lockf", "mkfifo", "mknod", "nice", "openpty", "pathconf", "posix_fadvise", "posix_fallocate",
    "posix_spawn", "pread", "pwrite", "readv", "register_at_fork", "sched_getaffinity", "sendfile",
    "setpgid", "setpriority", "setsid", "setuid", "statvfs", "sync", "sysconf", "uname", "wait",
    "wait4", "writev", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG",
)  # fmt: skip
WINDOWS_SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}
OURS = r"__main__$|_stage$|_tool$|workers$|mnist_pipeline\b"


def become_windows() -> None:
    """Change this interpreter."""
    for name in POSIX_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it is an ImportError
    for name in POSIX_NAMES:
        vars(os).pop(name, None)
    for name in signal.Signals.__members__.keys() - WINDOWS_SIGNALS:
        delattr(signal, name)
    for name in ("alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait"):
        delattr(signal, name)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # in rmtree
    replaced: dict[str, Callable] = {"open": open_no_folder, "fsync": flush_writable}
    for name in ("replace", "rename", "unlink", "remove"):
        replaced[name] = not_in_use
    for name, replacement in replaced.items():
        setattr(os, name, replacement(getattr(os, name)))
    builtins.open = io.open = translate_newlines(io.open)
    warnings.filterwarnings("error", category=EncodingWarning, module=OURS)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="cp1252")  # type: ignore[union-attr]


def open_no_folder(system_open: Callable[..., int]) -> Callable[..., int]:
    def windows_open(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return system_open(path, *arguments, **options)

    return windows_open


def flush_writable(fsync: Callable[..., None]) -> Callable[..., None]:
    def windows_fsync(descriptor: int) -> None:
        if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(descriptor)

    return windows_fsync


def not_in_use(system_call: Callable[..., None]) -> Callable[..., None]:
    def windows_call(*paths: Any, **options: Any) -> None:
        maps = Path("/proc/self/maps").read_text("utf-8").splitlines()
        used = {Path(line.split(maxsplit=5)[5]) for line in maps if "/" in line}
        used |= {link.resolve() for link in Path("/proc/self/fd").iterdir()}
        for path in paths:
            if Path(path).is_file() and Path(path).resolve() in used:
                raise PermissionError(errno.EACCES, "used by a process", path)
        system_call(*paths, **options)

    return windows_call


def translate_newlines(system_open: Callable[..., Any]) -> Callable[..., Any]:
    def windows_open(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **options: Any,
    ) -> Any:
        if newline is None and "b" not in mode and "r" not in mode:
            newline = "\r\n"
        return system_open(file, mode, buffering, encoding, errors, newline, **options)

    return windows_open


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=EncodingWarning)
    for library in LIBRARIES:
        importlib.import_module(library)
    become_windows()
    for command in sys.argv[1:]:
        sys.argv = shlex.split(command)
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
