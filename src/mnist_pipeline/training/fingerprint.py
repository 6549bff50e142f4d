"""Fingerprint of a run: everything that shapes its result."""

import hashlib
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..common.files import sha256
from ..runtime.distributed import broadcast, is_local_rank_0, world_size

HASHED = ("params", "data", "code")
"""Entries of a fingerprint that are hashes; the others are the environment, as it is."""


def compute_fingerprint(
    params: Mapping[str, Any], data: Sequence[Path], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """The inputs of a run: SHA-256 of params, data files and imported code, and the environment.

    One process per host reads the data for it; the others have no entry "data".
    """
    package = __name__.split(".")[0]
    modules = sorted(name for name in sys.modules if name.split(".")[0] in (package, "__main__"))
    sources = [getattr(sys.modules[name], "__file__", None) for name in modules]
    inputs: dict[str, Any] = {"params": params}
    if is_local_rank_0():
        inputs["data"] = [sha256(path) for path in data]
    inputs["code"] = [sha256(Path(source)) for source in sources if source]
    hashes = {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        for name, value in inputs.items()
    }
    return hashes | dict(environment)


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What differs between two fingerprints: "params, torch (2.14 instead of 2.15)"."""
    return ", ".join(
        name if name in HASHED else f"{name} ({found.get(name)} instead of {expected[name]})"
        for name in expected
        if found.get(name) != expected[name]
    )


def common_fingerprint(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fingerprint that all ranks have in common: that of rank 0.

    Only the number of threads may differ between hosts; it is then a list, one entry per rank.
    Raises UserError, on all ranks: something else differs.
    """
    content = json.dumps([socket.gethostname(), dict(fingerprint)]).encode()
    gathered = [json.loads(broadcast(content, source)) for source in range(world_size())]
    first_host, first = gathered[0]
    threads = [each["threads"] for _, each in gathered]
    for number, (host, each) in enumerate(gathered):
        each = {"data": first["data"], **each, "threads": threads[0]}
        if different := differences(each, first):
            raise UserError(
                f"launcher: {host} (rank {number}) and {first_host} (rank 0) differ in {different};"
                " all hosts need the same commit, params, data ('dvc repro preprocess') and"
                " environment"
            )
    return first if len(set(threads)) == 1 else {**first, "threads": threads}
