"""Atomic file writes; JSON and CSV; checksums."""

import csv
import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .errors import UserError

if TYPE_CHECKING:
    import pandas as pd


LEFTOVER_AGE = 24 * 3600
"""Seconds after which a temporary file counts as left behind by a killed process."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, renamed to `path` once the block has succeeded.

    The content is flushed to disk before the rename, so `path` is never half-written. Raises
    OSError, which names `path`: the disk is full, the folder read-only, ...
    """
    with temporary_path(path) as temporary:
        try:
            yield temporary
            _flush(temporary, os.O_RDWR)  # Windows flushes only what may be written
            temporary.replace(path)
            with suppress(OSError):  # Windows and some network drives flush no folders
                _flush(path.parent, os.O_RDONLY)
        except OSError as error:
            if error.filename is None or Path(error.filename) == temporary:
                error.filename = str(path)
            raise


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield a new name next to `path` for a file or folder, which is removed if still there.

    The name is unique, because hosts that share a file system write the same files. A kill leaves
    the temporary file behind; any write to the same folder removes it once it is a day old.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(".*.partial"):
        with suppress(OSError):  # another process was faster, or it is another user's
            if time.time() - leftover.stat().st_mtime > LEFTOVER_AGE:
                _remove(leftover)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        yield temporary
    finally:
        _remove(temporary)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, keys in the given order.

    Raises UserError: a number is NaN or infinite, which JSON cannot hold.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise UserError(f"{path}: not written: found {content}, expected finite numbers") from None
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", "utf-8", newline="\n")  # the same bytes on Windows


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write `table` without its index; floats with six significant digits, None as empty."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The same for rows of equal keys, without pandas, which takes a moment to import."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row.values())


def six_digits(metrics: Mapping[str, float | int]) -> dict[str, float | int]:
    """`metrics` with floats rounded to six significant digits."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in metrics.items()
    }


def written_by(stage: str, path: Path) -> str:
    """What the user can do about an out of a stage that is missing or damaged.

    A power loss may empty a file of DVC's cache, which DVC then links over whatever the stage
    writes: it checks only files that may be written.
    """
    if not path.exists():
        return f"'dvc repro {stage}' writes it"
    commands = f'chmod -R u+w "$(dvc cache dir)"; rm {shlex.quote(str(path))}'
    if os.name == "nt":  # PowerShell
        name = str(path).replace("'", "''")
        commands = f"attrib -R \"$(dvc cache dir)\\*\" /S; del -Force -LiteralPath '{name}'"
    return (
        f"to write it again, and to let DVC check the copies in its cache:"
        f" {commands}; dvc repro {stage}"
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    return digest(path, "sha256")


def digest(path: Path, algorithm: str) -> str:
    """Digest of a file's content in hexadecimal, read in chunks of 1 MiB."""
    found = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def _remove(path: Path) -> None:
    """Remove a file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path, mode: int) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
