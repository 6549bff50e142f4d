"""A whole run: of every setting, and on two hosts, of what they must have in common."""

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.model.tensors import load_tensors
from mnist_pipeline.runtime.distributed import all_gather, barrier, rank
from mnist_pipeline.splits.digits import read_digits
from mnist_pipeline.splits.write import write_splits
from mnist_pipeline.training import run
from mnist_pipeline.training.fingerprint import common_fingerprint, compute_fingerprint
from mnist_pipeline.training.settings import TrainSettings

from ..ranks import run_ranks
from .test_loop import CPU, KilledError
from .test_optimizers import PARAMS


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "optimizers.sgd.lr": 0.1, "optimizers.sgd.momentum": 0.9,
         "optimizers.sgd.nesterov": True, "schedule": "one_cycle"},
        {"optimizer": "adamw", "schedule": "cosine", "loss": "bce", "normalization": "standard"},
        {"optimizer": "rmsprop", "schedule": "step", "loss": "mse", "keep": "best"},
        {"optimizer": "adam", "models.mlp.hidden_sizes": [500], "models.mlp.activation": "gelu",
         "models.mlp.dropout": 0.2, "loss": "nll", "shuffle": False},
        {"optimizer": "adam", "model": "cnn", "models.cnn.pooling": "average",
         "models.cnn.head": [32], "models.cnn.dropout": 0.1},
    ],
    ids=lambda changes: next(iter(changes.values())),
)  # fmt: skip
def test_every_model_setting_loss_optimizer_and_schedule_trains(
    digits_folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = PARAMS.model_dump() | {"epochs": 3}
    for name, value in changes.items():
        *blocks, key = name.split(".")
        chosen = settings
        for block in blocks:
            chosen = chosen[block]
        chosen[key] = value
    run.train(TrainSettings.model_validate(settings), digits_folder, tmp_path, tmp_path, CPU)
    assert json.loads((tmp_path / "train.json").read_text())["validation_accuracy"] > 0.6


@pytest.mark.parametrize("batch_size", [64, 5000])  # in the second step; in the last one
def test_a_run_that_diverges_writes_no_model(
    digits_folder: Path, tmp_path: Path, batch_size: int
) -> None:
    settings = PARAMS.model_dump() | {"epochs": 1, "batch_size": batch_size}
    settings["optimizers"]["sgd"]["lr"] = 1e38
    with pytest.raises(UserError, match="training has diverged"):
        run.train(TrainSettings.model_validate(settings), digits_folder, tmp_path, tmp_path, CPU)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("lr", "said"), [(0.1, ""), (10.0, "; try a lower lr")])
def test_a_model_that_has_learned_nothing_is_told(
    digits_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lr: float,
    said: str,
) -> None:
    settings = PARAMS.model_dump() | {"epochs": 2}
    settings["optimizers"]["sgd"]["lr"] = lr
    run.train(TrainSettings.model_validate(settings), digits_folder, tmp_path, tmp_path, CPU)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("warning: an accuracy of ") == bool(said)
    assert said in last


def test_without_a_validation_split_no_epoch_is_the_best(tmp_path: Path) -> None:
    write_splits(read_digits(), 0, tmp_path / "data")
    params = TrainSettings.model_validate(PARAMS.model_dump() | {"epochs": 1})
    run.train(params, tmp_path / "data", tmp_path, tmp_path, CPU)
    metrics = json.loads((tmp_path / "train.json").read_text())
    assert set(metrics) == {"epoch", "train_loss", "train_accuracy"}
    before = (tmp_path / "model.safetensors").read_bytes()
    best = params.model_copy(update={"keep": "best"})
    expected = "expected classes of two or more images and a validation_fraction above 0"
    with pytest.raises(UserError, match=f"validation: found no validation images.*{expected}"):
        run.train(best, tmp_path / "data", tmp_path, tmp_path, CPU)
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("folders", [["shared", "shared"], ["first", "second"]])
def test_hosts_may_differ_in_threads_and_resume(
    digits_folder: Path, tmp_path: Path, folders: list[str]
) -> None:
    run_ranks(2, train_kill_and_resume, digits_folder, tmp_path, folders)
    contents = [(tmp_path / name / "model.safetensors").read_bytes() for name in folders]
    assert contents[0] == contents[1]
    environment = load_tensors(tmp_path / folders[0] / "model.safetensors")[1]["environment"]
    assert environment["threads"] == [1, 2]


def train_kill_and_resume(data: Path, root: Path, folders: list[str]) -> None:
    """On each host: train with threads of its own, end after an epoch, and go on."""
    torch.set_num_threads(rank() + 1)
    folder = root / folders[rank()]
    settings = {"epochs": 3, "batch_size": 300, "num_workers": 0}
    params = TrainSettings.model_validate(PARAMS.model_dump() | settings)

    def killed(*_: object) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(run, "write_history", killed)
        run.train(params, data, folder, folder, CPU)
    barrier()
    if rank() == 1 and folders[0] != folders[1]:
        shutil.rmtree(folder)  # a new machine in its place
    output = io.StringIO()
    with redirect_stdout(output):
        run.train(params, data, folder, folder, CPU)
    assert "Resuming after epoch 1 of 3" in output.getvalue()


def test_hosts_with_another_environment_are_told_the_difference() -> None:
    run_ranks(2, disagree)


def disagree() -> None:
    """On each host: another torch and number of GPUs."""
    fingerprint = {"params": "1", "data": "2", "code": "3", "torch": "2.15", "threads": 1}
    versions = ["2.15", "2.14"]
    with pytest.raises(UserError) as caught:
        common_fingerprint({**fingerprint, "torch": versions[rank()], "devices": 2 + rank()})
    message = str(caught.value)
    assert "(rank 1)" in message
    assert "differ in torch (2.14 instead of 2.15), devices (3 instead of 2);" in message
    with pytest.raises(UserError, match="differ in code; all hosts need the same commit"):
        common_fingerprint({**fingerprint, "code": str(rank())})
    assert common_fingerprint({**fingerprint, "threads": rank()})["threads"] == [0, 1]
    assert common_fingerprint(fingerprint) == fingerprint
    assert all_gather(1) == [1, 1], "both are still there"


@pytest.mark.parametrize("one_host", [True, False])
def test_the_data_is_read_once_per_host(tmp_path: Path, one_host: bool) -> None:
    (tmp_path / "images.npy").write_bytes(b"images")
    run_ranks(2, read_once, tmp_path / "images.npy", one_host, one_host=one_host)


def read_once(path: Path, one_host: bool) -> None:
    """On each rank: read the data or leave that to another, and end with its checksum."""
    alone = compute_fingerprint({}, [path], {"threads": 1})
    assert ("data" in alone) == (rank() == 0 or not one_host)
    agreed = common_fingerprint(alone)
    assert {**agreed, "data": 0} == {**alone, "data": 0}
    assert all_gather(int(agreed["data"][:8], 16))[0] == int(agreed["data"][:8], 16)
