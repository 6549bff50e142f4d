"""Named tensors and their metadata in one safetensors file; no pickle is read or written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..common.errors import UserError
from ..common.files import atomic

METADATA_KEY = "mnist_pipeline"
"""All metadata is one JSON text: safetensors writes several entries in no fixed order."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write `tensors` and `metadata`; equal content gives equal bytes."""
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        # Not save_file, which writes a temporary file of its own that only its owner may read.
        temporary.write_bytes(save(contiguous, {METADATA_KEY: text}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and the metadata of a file written by `save_tensors`.

    Raises UserError: the file is missing, damaged or was not written by the train stage.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
        # Copies, because load_file maps the file, and Windows replaces no file that is mapped.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}, metadata
    except (SafetensorError, KeyError, ValueError) as error:
        problem = f"not a safetensors file of this pipeline ({type(error).__name__}: {error})"
        raise UserError(f"{path}: {problem}") from None
