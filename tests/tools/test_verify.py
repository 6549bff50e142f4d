"""Which of the known reasons apply where a run has other outs than those committed."""

import json
import tracemalloc
from hashlib import md5
from importlib.metadata import version
from pathlib import Path

import torch
from _lock import dvc_md5, objects
from verify import known_reasons, other_packages

from mnist_pipeline.model.tensors import save_tensors

HERE = {"torch": "2.15.0", "processor": "x86 avx2"}


def test_known_reasons(tmp_path: Path) -> None:
    weights = {"weight": torch.zeros(1)}
    save_tensors(tmp_path / "models/model.safetensors", weights, {"environment": HERE})
    elsewhere = HERE | {"torch": "2.14.0"}
    save_tensors(tmp_path / "elsewhere", weights, {"environment": elsewhere})
    (tmp_path / "requirements.lock").write_text("")
    name = dvc_md5(tmp_path / "elsewhere")
    committed = {
        ("train", "params", "arithmetic"): "native",
        ("train", "params", "optimizer"): "rmsprop",
        ("train", "outs", "models/model.safetensors"): {"md5": name},
    }
    *unknown, last = known_reasons(tmp_path, committed, tmp_path)
    assert "'dvc pull' fetches it" in last
    (tmp_path / name[:2]).mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / name[:2] / name[2:])
    *same, last = known_reasons(tmp_path, committed, tmp_path)
    assert last == "the environment of the training run: torch (2.15.0 instead of 2.14.0)"
    assert same == unknown
    native, rmsprop = same[-2:]
    assert native.startswith("arithmetic: native ")
    assert rmsprop.startswith("optimizer: rmsprop ")


def test_packages_that_a_lock_does_not_pin(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    numpy, pandas = version("numpy"), version("pandas")
    lock.write_text(
        f"numpy==0.1 ; python_version < '3.11' \\\n    --hash=sha256:00\nnumpy=={numpy} \\\n"
        "pandas==0.1\nno-such-package==1\n"
    )
    assert other_packages(lock) == [f"pandas {pandas}"]


def test_a_large_out_is_not_held_in_memory(tmp_path: Path) -> None:
    name = md5(bytes(1 << 25)).hexdigest()
    path = tmp_path / name[:2] / name[2:]
    path.parent.mkdir()
    path.write_bytes(bytes(1 << 25))
    tracemalloc.start()
    try:
        assert dvc_md5(path) == name
        assert [*objects(tmp_path, name)] == [(path, True)]
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_a_folder_in_a_cache(tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    (tmp_path / "split/b").write_bytes(b"1")
    (tmp_path / "split/a").write_bytes(b"2")
    (tmp_path / "split/.a.5f.partial").write_bytes(b"half")
    listed = [
        {"md5": md5(text).hexdigest(), "relpath": name} for name, text in (("a", b"2"), ("b", b"1"))
    ]
    content = json.dumps(listed).encode()
    name = dvc_md5(tmp_path / "split")
    assert name == f"{md5(content).hexdigest()}.dir"
    for md5_of_object, stored in (
        (name, content),
        (listed[0]["md5"], b"2"),
        (listed[1]["md5"], b"0"),
    ):
        path = tmp_path / md5_of_object[:2] / md5_of_object[2:]
        path.parent.mkdir()
        path.write_bytes(stored)
    assert [good for _, good in objects(tmp_path, name)] == [True, True, False]
