"""How the processes of one training share a batch; tests/pipeline/test_torchrun.py runs them."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_pipeline import checkpoints, distributed
from mnist_pipeline.checkpoints import check_agreement
from mnist_pipeline.errors import UserError


@given(length=st.integers(0, 300), size=st.integers(1, 20))
def test_the_processes_share_everything_evenly(length: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "size", lambda: size)
        taken, counted = [], 0
        shares = []
        for rank in range(size):
            patch.setattr(distributed, "rank", lambda rank=rank: rank)
            shares.append(list(range(length))[distributed.share(length)])
            part, own = distributed.part_of_batch(length)
            taken += [(index, own > 0) for index in list(range(length))[part]]
            counted += own
        assert [index for share in shares for index in share] == list(range(length))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert counted == length
        assert [index for index, counts in taken if counts] == list(range(length))
        if length:
            assert len(taken) == max(length, size), "nobody is left without an image"


def test_a_process_alone_has_everything_and_waits_for_nobody() -> None:
    assert (distributed.rank(), distributed.size()) == (0, 1)
    assert distributed.share(7) == slice(0, 7)
    assert distributed.total([0.1, 2]) == [0.1, 2]
    assert distributed.of_each(3) == [3]
    assert distributed.broadcast(b"as it is") == b"as it is"
    tensor = torch.tensor([1.0])
    distributed.average(iter([tensor]))
    assert tensor == 1


def test_a_local_rank_that_no_torchrun_set_silences_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.is_first_here()


def test_another_hosts_other_checkout_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"params": "a", "data": "b", "code": "c"}
    monkeypatch.setattr(checkpoints, "broadcast", lambda _: json.dumps(first).encode())
    check_agreement(first)
    with pytest.raises(UserError, match=r"launcher: the params, code of .* differ from those of"):
        check_agreement({"params": "x", "data": "b", "code": "z"})
