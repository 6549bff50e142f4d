"""What a killed training needs to go on: one file, bound to all that shaped it."""

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

from .distributed import barrier, broadcast, is_first_here, rank
from .errors import UserError
from .files import atomic, sha256
from .tensorfiles import load_tensors, save_tensors

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors and plain values that is read back only by a run of the same origin."""

    path: Path
    origin: Mapping[str, str]  # see origin_of

    def save(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Replace the file; a kill at any moment leaves the old one or the new one."""
        arrays = {name: tensor.cpu().contiguous().numpy() for name, tensor in tensors.items()}
        save_tensors(self.path, arrays, {"origin": dict(self.origin), "values": dict(values)})

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """The last tensors and values saved, or None; says why it doesn't use a file it finds."""
        if not self.path.exists():
            return None
        try:
            tensors, header = load_tensors(self.path, made_by="train")
            found, values = header["origin"], header["values"]
        except (UserError, KeyError):
            print(f"{self.path.name}: damaged; training starts afresh")
            return None
        changed = [name for name in self.origin if found.get(name) != self.origin[name]]
        if changed:
            print(f"{self.path.name}: of other {', '.join(changed)}; training starts afresh")
            return None
        return {name: tensor.clone() for name, tensor in tensors.items()}, values

    def copy_from(self, source: int) -> None:
        """Replace the file on every host by that of the process of rank `source`."""
        content = broadcast(self.path.read_bytes() if rank() == source else b"", source)
        if is_first_here():
            with atomic(self.path) as temporary:
                temporary.write_bytes(content)
        barrier()


def origin_of(
    params: Mapping[str, Any], data: Sequence[Path], engine: Mapping[str, Any]
) -> dict[str, str]:
    """Digests of all that shapes a training: params, data files, the code loaded, the engine."""
    package = __name__.split(".")[0]
    modules = sorted(name for name in sys.modules if name.split(".")[0] in (package, "__main__"))
    sources = [getattr(sys.modules[name], "__file__", None) for name in modules]
    parts = {
        "params": params,
        "data": [sha256(path) for path in data],
        "code": [sha256(Path(source)) for source in sources if source],
        "engine": engine,
    }
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
        for name, part in parts.items()
    }


def check_agreement(origin: Mapping[str, str]) -> None:
    """Raise UserError in a process whose `origin` isn't that of rank 0, its host's that is."""
    first = json.loads(broadcast(json.dumps(dict(origin)).encode()))
    different = [name for name in origin if origin[name] != first[name]]
    if different:
        raise UserError(
            f"launcher: the {', '.join(different)} of {socket.gethostname()} (process {rank()})"
            " differ from those of process 0; bring both checkouts to the same commit and params,"
            " and the same data ('dvc repro preprocess')"
        )


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """The tensors of an optimizer's state, by the parameter's number and their own name."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], groups: Sequence[Mapping[str, Any]]
) -> None:
    """Give an optimizer the state that `optimizer_tensors` and its param_groups had."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:  # a fused step wants its order in memory as well
            tensor = torch.empty_like(parameter, device="cpu").copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": list(groups)})
