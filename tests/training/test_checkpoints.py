"""Checkpoints: read back by a run of the same fingerprint, and by no other."""

from pathlib import Path

import pytest
import torch

from mnist_pipeline.training.checkpoints import Checkpoint, compute_fingerprint

FINGERPRINT = {"params": "1", "data": "2", "code": "3", "torch": "2.15", "threads": 2}


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", FINGERPRINT)
    checkpoint.save({"model/0.weight": torch.tensor(0.1)}, {"lr": 0.30000000000000004})
    return checkpoint


def test_what_was_saved_comes_back_to_the_bit(saved: Checkpoint) -> None:
    loaded = saved.load()
    assert loaded is not None
    assert loaded[0]["model/0.weight"].item() == torch.tensor(0.1).item()
    assert loaded[1] == {"lr": 0.30000000000000004}
    saved.path.unlink()
    assert saved.load() is None


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
    saved: Checkpoint, part: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Checkpoint(saved.path, {**FINGERPRINT, part: "other"}).load() is None
    assert f": different {said}; training starts from the beginning" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"half"])
def test_a_damaged_file_starts_from_the_beginning(
    saved: Checkpoint, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.path.write_bytes(content)
    assert saved.load() is None
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
