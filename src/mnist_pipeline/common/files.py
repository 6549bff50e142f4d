"""Atomic file writes; JSON and CSV; checksums."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, renamed to `path` once the block has succeeded.

    The content is flushed to disk before the rename, so `path` is never half-written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)  # Windows flushes only what may be written
        temporary.replace(path)
        with suppress(OSError):  # Windows and some network drives flush no folders
            _flush(path.parent, os.O_RDONLY)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed write does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


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


def six_digits(metrics: Mapping[str, float | int]) -> dict[str, float | int]:
    """`metrics` with floats rounded to six significant digits."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in metrics.items()
    }


def sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal, read in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _flush(path: Path, mode: int) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
