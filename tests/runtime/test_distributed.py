"""How ranks share a batch; tests/pipeline/test_torchrun.py runs several of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.runtime import distributed
from mnist_pipeline.runtime.distributed import LocalBatch, shard


@given(length=st.integers(0, 300), world_size=st.integers(1, 20))
def test_shards_cover_everything_evenly(length: int, world_size: int) -> None:
    shards = [list(range(length))[shard(length, rank, world_size)] for rank in range(world_size)]
    assert [index for part in shards for index in part] == list(range(length))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@given(size=st.integers(1, 300), world_size=st.integers(1, 20))
def test_each_image_of_a_batch_counts_once_and_no_rank_is_idle(size: int, world_size: int) -> None:
    counted = []
    for rank in range(world_size):
        part = LocalBatch.of(size, rank, world_size)
        images = list(range(size))[part.images]
        assert len(images) >= 1
        assert part.count in (0, len(images))
        counted += images[: part.count]
    assert counted == list(range(size))


def test_a_single_process_has_everything_and_waits_for_nobody() -> None:
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.all_reduce_sum([0.1, 2]) == [0.1, 2]
    assert distributed.all_gather(3) == [3]
    assert distributed.broadcast(b"as it is") == b"as it is"
    tensor = torch.tensor([1.0])
    distributed.all_reduce_mean(iter([tensor]))
    assert tensor == 1


def test_a_local_rank_that_torchrun_did_not_set_silences_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.is_local_rank_0()


def test_processes_that_do_not_train_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    message = "found srun -n 2 python, which starts 2 processes that do not train together"
    with (
        pytest.raises(UserError, match=message),
        distributed.process_group(device, "srun -n 2 python"),
    ):
        pass
    with distributed.process_group(device, "python"):  # several experiments in one step of a job
        pass
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    with distributed.process_group(device, "srun -n 1 python"):
        pass
