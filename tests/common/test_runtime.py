"""Devices and random streams."""

import pytest
import torch
from torch import nn

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.runtime import choose_device, parallelize, stream_seed


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


def test_auto_picks_an_available_device() -> None:
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (choose_device("auto").type != "cpu") == gpu
    assert choose_device("cpu") == torch.device("cpu")


def test_a_missing_device_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(UserError, match="found cuda, which torch cannot use here; expected"):
        choose_device("cuda")


def test_one_device_needs_no_wrapper() -> None:
    model = nn.Linear(2, 2)
    assert parallelize(model, torch.device("cpu")) is model


def test_several_gpus_share_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    model = parallelize(nn.Linear(2, 2), torch.device("cuda"))
    assert isinstance(model, nn.DataParallel)
    assert f"Let's use {torch.cuda.device_count()} GPUs!" in capsys.readouterr().out
    assert model(torch.ones(8, 2)).shape == (8, 2)
