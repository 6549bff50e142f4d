"""Tensors and a header in one safetensors file: no pickle, read by memory-mapping.

The header is one JSON text, because the order in which safetensors writes several is not fixed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .errors import UserError
from .files import atomic

if TYPE_CHECKING:
    from torch import Tensor

HEADER_KEY = "mnist_pipeline"


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write `tensors` and `header`; the same content gives the same bytes."""
    text = json.dumps(header, sort_keys=True, ensure_ascii=False)
    with atomic(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata={HEADER_KEY: text})
        except SafetensorError as error:  # a full disk comes as this
            raise UserError(f"{path}: could not be written ({error})") from None


def load_tensors(path: Path, made_by: str) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """The tensors, memory-mapped, and the header of a file that `save_tensors` wrote.

    `made_by` is the stage named to the reader of an error. Raises UserError: missing, damaged or
    foreign file.
    """
    advice = f"'dvc repro {made_by}' writes it"
    if not path.is_file():
        raise UserError(f"{path}: no such file; {advice}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER_KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        problem = "not a safetensors file of this pipeline"
        raise UserError(f"{path}: {problem} ({type(error).__name__}: {error}); {advice}") from None
