"""Checkpoints: read back by a run of the same fingerprint, and by no other."""

from pathlib import Path

import pytest
import torch

from mnist_pipeline.splits.batches import ImageDataset
from mnist_pipeline.training.checkpoints import Checkpoint
from mnist_pipeline.training.fingerprint import compute_fingerprint
from mnist_pipeline.training.loop import Trainer

from .test_loop import make_trainer, train, weights

FINGERPRINT = {"params": "1", "data": "2", "code": "3", "torch": "2.15", "threads": 2}


def fresh(digits: ImageDataset) -> Trainer:
    return make_trainer(ImageDataset(*digits[:200]), None, epochs=1, lr=0.30000000000000004)


@pytest.fixture
def saved(digits: ImageDataset, tmp_path: Path) -> Checkpoint:
    """The checkpoint of a run."""
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", FINGERPRINT)
    train(fresh(digits), checkpoint)
    return checkpoint


def test_what_was_saved_comes_back_to_the_bit(saved: Checkpoint, digits: ImageDataset) -> None:
    run, resumed = fresh(digits), fresh(digits)
    train(run)
    assert saved.resume(resumed)
    assert resumed.history == run.history
    assert all(map(torch.equal, weights(resumed), weights(run)))
    assert resumed.optimizer.param_groups[0]["lr"] == 0.30000000000000004
    saved.path.unlink()
    assert not saved.resume(resumed)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("params", "params"),
        ("data", "data"),
        ("code", "code"),
        ("torch", "torch (2.15 instead of other)"),
        ("threads", "threads (2 instead of other)"),
        ("gpu", "gpu (None instead of other)"),
    ],
)
def test_another_fingerprint_starts_from_the_beginning_and_says_why(
    saved: Checkpoint,
    digits: ImageDataset,
    part: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Checkpoint(saved.path, {**FINGERPRINT, part: "other"})
    assert not other.resume(fresh(digits))
    assert f": different {said}; training starts from the beginning" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"half"])
def test_a_damaged_file_starts_from_the_beginning(
    saved: Checkpoint, digits: ImageDataset, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.path.write_bytes(content)
    assert not saved.resume(fresh(digits))
    assert "damaged; training starts from the beginning" in capsys.readouterr().out


def test_a_fingerprint_changes_with_each_of_its_parts(tmp_path: Path) -> None:
    data = tmp_path / "train.safetensors"
    data.write_bytes(b"a")
    fingerprint = compute_fingerprint({"seed": 0}, [data], {"torch": "2"})
    assert fingerprint == compute_fingerprint({"seed": 0}, [data], {"torch": "2"})
    assert (
        compute_fingerprint({"seed": 1}, [data], {"torch": "2"})["params"] != fingerprint["params"]
    )
    assert fingerprint["torch"] == "2"
    data.write_bytes(b"b")
    assert compute_fingerprint({"seed": 0}, [data], {"torch": "2"})["data"] != fingerprint["data"]
