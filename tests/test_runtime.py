"""Devices and random streams."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from mnist_pipeline.errors import UserError
from mnist_pipeline.runtime import choose_device, parallel, stream_seed

from .conftest import ROOT


def test_streams_differ_by_seed_use_and_epoch() -> None:
    seeds = {
        stream_seed(seed, use, epoch)
        for seed in range(5)
        for use in ("shuffle", "dropout")
        for epoch in range(20)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(0, "shuffle", 1) == 5019792774979233439  # the same everywhere, for ever


def test_auto_takes_what_is_there() -> None:
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (choose_device("auto").type != "cpu") == gpu
    assert choose_device("cpu") == torch.device("cpu")


def test_a_missing_device_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(UserError, match="device: found cuda, which torch can't use here; expected"):
        choose_device("cuda")


def test_several_gpus_share_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Linear(2, 2)
    assert parallel(model, torch.device("cpu")) is model
    if torch.cuda.device_count() < 2:  # one machine in many has two; pretend
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(nn.Module, "to", lambda self, _device: self)
        monkeypatch.setattr(nn, "DataParallel", lambda module: ("shared", module))
    assert parallel(model, torch.device("cuda")) is not model
    assert "Let's use 2 GPUs!" in capsys.readouterr().out


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_a_step_finds_the_memory_of_the_last() -> None:
    code = """
import resource, sys
sys.path.insert(0, "src")
import torch
from mnist_pipeline.runtime import keep_memory
keep_memory()
for step in range(30):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(2**19) for _ in range(16)]  # 2 MiB each
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    for _ in range(3):  # without keep_memory, chance decides: 0 or 160,000 pages
        pages = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)
        assert int(pages) < 1000
