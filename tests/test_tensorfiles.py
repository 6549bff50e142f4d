"""Tensor files: the same content gives the same bytes, and nothing foreign is read."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from safetensors.numpy import save_file

from mnist_pipeline.errors import UserError
from mnist_pipeline.tensorfiles import HEADER_KEY, PIECE, Rows, load_tensors, save_tensors

from .conftest import ROOT

HEADER = {"split": "train", "classes": ["né", "b"], "mean": 0.1, "std": 0.30000000000000004}


def test_tensors_and_header_read_back(tmp_path: Path) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    save_tensors(tmp_path / "a", {"images": images, "labels": np.arange(3)}, HEADER)
    tensors, header = load_tensors(tmp_path / "a", "train")
    assert header == HEADER
    assert torch.equal(tensors["images"], torch.from_numpy(images))
    assert tensors["labels"].dtype == torch.int64


ARRAYS = stnp.arrays(
    st.sampled_from(["?", "u1", "i1", "<i2", "<f2", "<i4", "<f4", "<i8", "<f8"]),
    stnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), ARRAYS, max_size=5), st.text())
def test_the_bytes_are_those_that_safetensors_writes(
    arrays: dict[str, np.ndarray], text: str
) -> None:
    with TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        save_tensors(ours, arrays, {"text": text})
        header = json.dumps({"text": text}, ensure_ascii=False)
        save_file(arrays, theirs, metadata={HEADER_KEY: header})
        assert ours.read_bytes() == theirs.read_bytes()
        tensors, _ = load_tensors(ours, "train")
        assert tensors.keys() == arrays.keys()
        for name, array in arrays.items():
            assert tensors[name].shape == array.shape
            assert tensors[name].numpy().dtype == array.dtype
            assert tensors[name].numpy().tobytes() == array.tobytes()


def test_rows_are_written_as_the_array_of_them_would_be(tmp_path: Path) -> None:
    array = np.arange(3 * 2 * PIECE, dtype=np.uint16).reshape(2 * PIECE, 3)
    for count in (0, 1, PIECE, 2 * PIECE - 1):
        indices = np.arange(len(array))[::-1][:count].copy()
        save_tensors(tmp_path / "a", {"x": Rows(array, indices), "y": indices}, {})
        save_file({"x": array[indices], "y": indices}, tmp_path / "b", {HEADER_KEY: "{}"})
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_larger_than_memory_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:  # all of it a hole, so it takes no room on the disk
        size = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
        header = json.dumps({"__metadata__": {HEADER_KEY: "{}"}, "x": tensor}).encode()
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    tensors, _ = load_tensors(path, "preprocess")
    assert len(tensors["x"]) == size
    assert tensors["x"][-1] == 0


def test_writing_into_a_tensor_leaves_the_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"x": np.zeros(3)}, {})
    tensors, _ = load_tensors(tmp_path / "a", "train")
    tensors["x"] += 1
    assert load_tensors(tmp_path / "a", "train")[0]["x"].sum() == 0


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
