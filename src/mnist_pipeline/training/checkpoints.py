"""Checkpoints: save and resume a run, bound to a fingerprint of everything that shapes it."""

import hashlib
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..common.errors import UserError
from ..common.files import atomic, sha256
from ..model.tensors import load_tensors, save_tensors
from ..runtime.distributed import barrier, broadcast, is_local_rank_0, rank, world_size

Tensors = dict[str, Tensor]

HASHED = ("params", "data", "code")
"""Entries of a fingerprint that are hashes; the others are the environment, as it is."""


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors and plain values that only a run with the same fingerprint resumes."""

    path: Path
    fingerprint: Mapping[str, Any]  # see `compute_fingerprint`

    def save(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Replace the file; a kill at any moment leaves the old or the new one."""
        save_tensors(self.path, tensors, {"fingerprint": self.fingerprint, "values": values})

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Return the saved tensors and values, or None; print why an existing file is not used."""
        if not self.path.exists():
            return None
        try:
            tensors, metadata = load_tensors(self.path)
            found, values = metadata["fingerprint"], metadata["values"]
        except (UserError, KeyError):
            print(f"{self.path.name}: damaged; training starts from the beginning")
            return None
        if changed := differences(found, self.fingerprint):
            print(f"{self.path.name}: different {changed}; training starts from the beginning")
            return None
        return tensors, values

    def copy_from(self, source: int) -> None:
        """Replace the file on every host by that of rank `source`."""
        content = broadcast(self.path.read_bytes() if rank() == source else b"", source)
        if is_local_rank_0():
            with atomic(self.path) as temporary:
                temporary.write_bytes(content)
        barrier()


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


def agree(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fingerprint that all ranks share: that of rank 0.

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


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """Tensors of an optimizer's state, named by parameter index and state name."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], groups: Sequence[Mapping[str, Any]]
) -> None:
    """Restore an optimizer from `optimizer_tensors` and its param_groups."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:  # fused steps expect the parameter's memory format
            tensor = torch.empty_like(parameter, device="cpu").copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": list(groups)})
