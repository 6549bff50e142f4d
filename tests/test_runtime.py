"""Devices and random streams."""

import pytest
import torch
from torch import nn

from mnist_pipeline.errors import UserError
from mnist_pipeline.runtime import choose_device, parallel, stream_seed


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
