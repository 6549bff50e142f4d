"""Tensors and a header in one safetensors file: no pickle, read by memory-mapping.

Neither writing nor reading needs a tensor to fit in memory. The header is one JSON text, because
the order in which safetensors writes several is not fixed.

Source of the format: https://huggingface.co/docs/safetensors. Eight bytes for the length of a JSON
object, which gives each tensor's dtype, shape and offsets, then the tensors' bytes.
"""

import json
import math
import mmap
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .errors import UserError
from .files import atomic

if TYPE_CHECKING:
    from torch import Tensor

HEADER_KEY = "mnist_pipeline"
PIECE = 8192
"""Rows worked on at a time where all of them might not fit in memory."""

NORESERVE = 0x4000 if sys.platform == "linux" else 0  # mmap.MAP_NORESERVE, from Python 3.13 on


@dataclass(frozen=True)
class Rows:
    """`array[indices]`, of which only a piece at a time is in memory: that is what it iterates."""

    array: np.ndarray
    indices: np.ndarray

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of the array."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As of `array[indices]`."""
        return len(self.indices), *self.array.shape[1:]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the rows in their order, at most `PIECE` at a time."""
        for begin in range(0, len(self.indices), PIECE):
            yield self.array[self.indices[begin : begin + PIECE]]


def save_tensors(
    path: Path, tensors: Mapping[str, np.ndarray | Rows], header: Mapping[str, Any]
) -> None:
    """Write `tensors` and `header`; the same content gives the same bytes, safetensors' own.

    Raises UserError: the file can't be written.
    """
    text = json.dumps(header, sort_keys=True, ensure_ascii=False)
    described = _describe(tensors, {HEADER_KEY: text})
    content = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    del described["__metadata__"]
    try:
        with atomic(path) as temporary, temporary.open("wb") as file:
            file.write(len(content).to_bytes(8, "little") + content)
            for name in described:
                tensor = tensors[name]
                for piece in tensor if isinstance(tensor, Rows) else [tensor]:
                    file.write(np.ascontiguousarray(piece).data)
    except OSError as error:  # a full disk
        raise UserError(f"{path}: could not be written ({error})") from None


def _describe(
    tensors: Mapping[str, np.ndarray | Rows], metadata: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The file's JSON: what safetensors writes of empty tensors, with the real shapes, offsets."""
    empty = {name: np.empty(0, tensor.dtype) for name, tensor in tensors.items()}
    described = json.loads(save(empty, dict(metadata))[8:])
    end = 0
    for name in [name for name in described if name in tensors]:
        begin, tensor = end, tensors[name]
        end += math.prod(tensor.shape) * tensor.dtype.itemsize
        described[name] |= {"shape": list(tensor.shape), "data_offsets": [begin, end]}
    return described


def load_tensors(path: Path, made_by: str) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """The tensors, memory-mapped, and the header of a file that `save_tensors` wrote.

    Who writes into a tensor changes memory, not the file. `made_by` is the stage named to the
    reader of an error. Raises UserError: missing, damaged or foreign file.
    """
    advice = f"'dvc repro {made_by}' writes it"
    if not path.is_file():
        raise UserError(f"{path}: no such file; {advice}")
    try:
        with safe_open(path, framework="np") as file:  # checks the whole header
            header = json.loads((file.metadata() or {})[HEADER_KEY])
        return _map(path), header
    except (SafetensorError, KeyError, ValueError) as error:
        problem = "not a safetensors file of this pipeline"
        raise UserError(f"{path}: {problem} ({type(error).__name__}: {error}); {advice}") from None


def _map(path: Path) -> dict[str, "Tensor"]:
    """The tensors of a file in safetensors' format.

    safetensors' own mapping reserves memory for the whole file, so Linux refuses it one that is
    larger than memory (https://github.com/safetensors/safetensors/issues/528).
    """
    import torch  # here, as preprocess does without it

    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | NORESERVE)
    begin = 8 + int.from_bytes(content[:8], "little")
    described = json.loads(content[8:begin])
    described.pop("__metadata__")
    data = torch.frombuffer(content, dtype=torch.uint8)[begin:]
    tensors = {}
    for name, tensor in described.items():
        first, last = tensor["data_offsets"]
        kind = tensor["dtype"].replace("U", "uint").replace("I", "int").replace("F", "float")
        tensors[name] = data[first:last].view(getattr(torch, kind.lower())).view(tensor["shape"])
    return tensors
