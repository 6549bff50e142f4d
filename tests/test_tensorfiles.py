"""Tensor files: the same content gives the same bytes, and nothing foreign is read."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mnist_pipeline.errors import UserError
from mnist_pipeline.tensorfiles import load_tensors, save_tensors

from .conftest import ROOT

HEADER = {"split": "train", "classes": ["né", "b"], "mean": 0.1, "std": 0.30000000000000004}


def test_tensors_and_header_read_back(tmp_path: Path) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    save_tensors(tmp_path / "a", {"images": images, "labels": np.arange(3)}, HEADER)
    tensors, header = load_tensors(tmp_path / "a", "train")
    assert header == HEADER
    assert torch.equal(tensors["images"], torch.from_numpy(images))
    assert tensors["labels"].dtype == torch.int64


def test_a_fresh_process_writes_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'src'); from pathlib import Path; import numpy as np;"
        "from mnist_pipeline.tensorfiles import save_tensors;"
        "save_tensors(Path(sys.argv[1]), {c: np.ones(3) for c in 'edcba'}, dict.fromkeys('xyzvw'))"
    )
    for name in "ab":
        subprocess.run([sys.executable, "-c", code, tmp_path / name], cwd=ROOT, check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_this_pipeline_did_not_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    marker = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"

    class Payload:
        def __reduce__(self) -> tuple:
            return exec, (code,)

    save_tensors(path, {"a": np.ones(100)}, {})
    whole = path.read_bytes()
    save_file({"a": np.ones(3)}, path)
    foreign = path.read_bytes()
    for content in (b"", b"x" * 100, pickle.dumps(Payload()), whole[:-1], whole[:50], foreign):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file of this"):
            load_tensors(path, "train")
    assert not marker.exists()
    with pytest.raises(UserError, match="no such file; 'dvc repro train' writes it"):
        load_tensors(tmp_path / "missing", "train")
