"""Checkpoints: save a run after each epoch, and resume it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..common.errors import UserError
from ..common.files import atomic
from ..model.tensors import load_tensors, save_tensors
from ..runtime.distributed import all_gather, barrier, broadcast, is_local_rank_0, rank
from .fingerprint import differences
from .history import Epoch

if TYPE_CHECKING:
    from .loop import Trainer

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A file that only a run with the same fingerprint resumes."""

    path: Path
    fingerprint: Mapping[str, Any]  # see `compute_fingerprint`

    def save(self, run: "Trainer") -> None:
        """Write what the next epoch depends on, except random state, which is reseeded.

        A kill at any moment leaves the old file or the new one.
        """
        optimizer = run.optimizer.state_dict()
        values = {
            "history": [asdict(epoch) for epoch in run.history],
            "param_groups": optimizer["param_groups"],
            "schedule": run.schedule.state_dict(),
        }
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": run.model.state_dict(),
            "best": run.best_weights,
            "optimizer": _flatten(optimizer["state"]),
        }
        tensors = {f"{part}/{key}": value for part in parts for key, value in parts[part].items()}
        save_tensors(self.path, tensors, {"fingerprint": self.fingerprint, "values": values})

    def resume(self, run: "Trainer") -> bool:
        """Restore what `save` wrote; return whether there was something to restore.

        If the hosts have different checkpoints, all ranks resume from the latest.
        """
        saved = self._load()
        epochs = all_gather(len(saved[1]["history"]) if saved else 0)
        if min(epochs) < max(epochs):
            self._copy_from(epochs.index(max(epochs)))
            saved = self._load()
        if saved is None:
            return False
        tensors, values = saved
        parts: dict[str, Tensors] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, key = name.split("/", 1)
            parts[part][key] = tensor
        run.model.load_state_dict(parts["model"])
        run.best_weights = parts["best"]
        state = _unflatten(parts["optimizer"], run.optimizer)
        run.optimizer.load_state_dict({"state": state, "param_groups": values["param_groups"]})
        run.schedule.load_state_dict(values["schedule"])
        run.history[:] = [Epoch(**row) for row in values["history"]]
        return True

    def _load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Return the saved tensors and values, or None; print why an existing file is not used."""
        if not self.path.exists():
            return None
        try:
            tensors, metadata = load_tensors(self.path)
            fingerprint, values = metadata["fingerprint"], metadata["values"]
        except (UserError, KeyError):
            print(f"{self.path.name}: damaged; training starts from the beginning")
            return None
        if different := differences(fingerprint, self.fingerprint):
            print(f"{self.path.name}: different {different}; training starts from the beginning")
            return None
        return tensors, values

    def _copy_from(self, source: int) -> None:
        """Replace the file on every host by that of rank `source`."""
        content = broadcast(self.path.read_bytes() if rank() == source else b"", source)
        if is_local_rank_0():
            with atomic(self.path) as temporary:
                temporary.write_bytes(content)
        barrier()


def _flatten(state: Mapping[int, Mapping[str, Any]]) -> Tensors:
    """Tensors of an optimizer's state, named by parameter index and state name."""
    return {
        f"{index}.{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def _unflatten(tensors: Tensors, optimizer: Optimizer) -> dict[int, Tensors]:
    """The state that `_flatten` took, in the memory formats of the optimizer's parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:  # fused steps expect the parameter's memory format
            tensor = torch.empty_like(parameter, device="cpu").copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    return state
