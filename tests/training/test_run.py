"""A run on two hosts: what they must have in common, and what they may not."""

import io
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from mnist_pipeline.common.distributed import all_gather, barrier, rank
from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.params import TrainParams
from mnist_pipeline.common.tensors import load_tensors
from mnist_pipeline.training import run
from mnist_pipeline.training.checkpoints import agree

from ..ranks import run_ranks
from .test_loop import CPU, KilledError
from .test_optimizers import PARAMS


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
    params = TrainParams.model_validate(PARAMS.model_dump() | settings)

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
        agree({**fingerprint, "torch": versions[rank()], "devices": 2 + rank()})
    message = str(caught.value)
    assert "(rank 1)" in message
    assert "differ in torch (2.14 instead of 2.15), devices (3 instead of 2);" in message
    with pytest.raises(UserError, match="differ in code; all hosts need the same commit"):
        agree({**fingerprint, "code": str(rank())})
    assert agree({**fingerprint, "threads": rank()})["threads"] == [0, 1]
    assert agree(fingerprint) == fingerprint
    assert all_gather(1) == [1, 1], "both are still there"
