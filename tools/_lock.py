"""What a dvc.lock says of the outs, and whether files are what it says."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.strictyaml import load

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.raw.cache import md5_of

Entries = dict[tuple[str, str, str], Any]
"""Entries of a dvc.lock by stage, section (cmd, deps, params or outs) and name."""


def read_lock(path: Path) -> Entries:
    """Read a dvc.lock. Raises UserError: there is none, it names no out, or it is damaged."""
    if not path.is_file():
        raise UserError("found no dvc.lock, expected a commit of what 'dvc repro' has written")
    try:
        content, _ = load(str(path), COMPILED_LOCKFILE_SCHEMA)
    except DvcException:
        raise UserError(
            "found a damaged dvc.lock, expected what 'dvc repro' writes; there, 'dvc status' shows"
            " what is wrong with it"
        ) from None
    entries: Entries = {}
    for stage, recorded in content.get("stages", {}).items():
        entries[stage, "cmd", ""] = recorded["cmd"]
        for section in ("deps", "outs"):
            for entry in recorded.get(section, []):
                if entries.get((stage, section, entry["path"]), entry) != entry:
                    raise UserError(f"dvc.lock: {stage}: found two of {entry['path']}")
                entries[stage, section, entry["path"]] = entry
        for params in recorded.get("params", {}).values():
            entries |= {(stage, "params", name): value for name, value in params.items()}
    if not outs(entries):
        raise UserError("dvc.lock: found no outs, expected those of 'dvc repro'")
    return entries


def outs(lock: Entries) -> dict[str, str]:
    """The path and MD5 of each out, in the order of the stages."""
    return {name: entry.get("md5", "") for (_, kind, name), entry in lock.items() if kind == "outs"}


def differing_outs(committed: Entries, found: Entries) -> list[str]:
    """The paths of outs that differ between two dvc.lock, in the order of the stages."""
    before, after = outs(committed), outs(found)
    return [path for path in after | before if after.get(path) != before.get(path)]


def differing_inputs(lock: Entries, expected: Entries, others: Sequence[str]) -> list[str]:
    """What a dvc.lock does not say as `expected` does, but for the entries of `others`."""
    return [
        f"dvc.lock: {stage}: {kind} {name}: found {lock.get(key)}, expected {expected.get(key)}"
        for key in dict.fromkeys([*lock, *expected])
        for stage, kind, name in [key]
        if name not in others and lock.get(key) != expected.get(key)
    ]


def dvc_md5(path: Path) -> str:
    """The MD5 of a file or folder, computed from its bytes as DVC does."""
    if not path.is_dir():
        return md5_of(path)
    files = {
        file.relative_to(path).as_posix(): md5_of(file)
        for file in path.rglob("*")
        if file.is_file() and not fnmatch(file.name, ".*.partial")  # as in .dvcignore
    }
    listed = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    content = json.dumps(listed, sort_keys=True).encode()
    return f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}.dir"


def objects(cache: Path, md5: str) -> Iterator[tuple[Path, bool]]:
    """Each object that a cache has of an out, and whether its bytes are what its name says."""
    path = cache / md5[:2] / md5[2:]
    if not md5[2:] or not path.is_file():
        return
    is_good = md5_of(path) == md5.removesuffix(".dir")
    yield path, is_good
    if is_good and md5.endswith(".dir"):
        for entry in json.loads(path.read_bytes()):
            yield from objects(cache, entry["md5"])
