"""Tensor files: equal content gives equal bytes, and nothing foreign is read."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.model.tensors import load_tensors, save_tensors

from ..conftest import ROOT

METADATA = {"classes": ["né", "b"], "mean": 0.1, "std": 0.30000000000000004}


def test_tensors_and_metadata_read_back(tmp_path: Path) -> None:
    tensors = {
        "weight": torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "step": torch.tensor(0.1, dtype=torch.float64),
        "empty": torch.empty(0, 3, dtype=torch.int64),
    }
    save_tensors(tmp_path / "a", tensors, METADATA)
    loaded, metadata = load_tensors(tmp_path / "a")
    assert metadata == METADATA
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "a", {}, {})
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_loaded_tensors_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_tensors(path, {"x": torch.ones(1000)}, {})
    tensors, _ = load_tensors(path)
    tensors["x"] += 1
    assert load_tensors(path)[0]["x"].sum() == 1000, "writing to a tensor leaves the file"
    save_tensors(path, {"x": torch.zeros(1000)}, {})
    assert tensors["x"].sum() == 2000, "writing the file leaves the tensor"


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'src'); from pathlib import Path; import torch;"
        "from mnist_pipeline.model.tensors import save_tensors;"
        "save_tensors(Path(sys.argv[1]), {c: torch.ones(3) for c in 'edcba'}, dict.fromkeys('xy'))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a"], cwd=ROOT, check=True)
    save_tensors(tmp_path / "b", {c: torch.ones(3) for c in "edcba"}, dict.fromkeys("xy"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_this_pipeline_did_not_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    marker = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"

    class Payload:
        def __reduce__(self) -> tuple:
            return exec, (code,)

    save_tensors(path, {"a": torch.ones(100)}, {})
    whole = path.read_bytes()
    save_file({"a": torch.ones(3)}, path)
    foreign = path.read_bytes()
    for content in (b"", b"x" * 100, pickle.dumps(Payload()), whole[:-1], whole[:50], foreign):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file of this"):
            load_tensors(path)
    assert not marker.exists()
    with pytest.raises(UserError, match=r"missing: no such file$"):
        load_tensors(tmp_path / "missing")
