"""Checkpoints: read back by a run of the same origin, and by no other."""

from pathlib import Path

import pytest
import torch

from mnist_pipeline.checkpoints import Checkpoint, origin_of

ORIGIN = {"params": "1", "data": "2", "code": "3", "engine": "4"}


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", ORIGIN)
    checkpoint.save({"model/0.weight": torch.tensor(0.1)}, {"lr": 0.30000000000000004})
    return checkpoint


def test_what_was_saved_comes_back_to_the_bit(saved: Checkpoint) -> None:
    loaded = saved.load()
    assert loaded is not None
    assert loaded[0]["model/0.weight"].item() == torch.tensor(0.1).item()
    assert loaded[1] == {"lr": 0.30000000000000004}
    saved.path.unlink()
    assert saved.load() is None


@pytest.mark.parametrize("part", ORIGIN)
def test_another_origin_starts_afresh_and_says_why(
    saved: Checkpoint, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Checkpoint(saved.path, {**ORIGIN, part: "other"}).load() is None
    assert f"of other {part}; training starts afresh" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"half"])
def test_a_damaged_file_starts_afresh(
    saved: Checkpoint, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.path.write_bytes(content)
    assert saved.load() is None
    assert "damaged; training starts afresh" in capsys.readouterr().out


def test_an_origin_changes_with_each_of_its_parts(tmp_path: Path) -> None:
    data = tmp_path / "train.safetensors"
    data.write_bytes(b"a")
    origin = origin_of({"seed": 0}, [data], {"torch": "2"})
    assert origin == origin_of({"seed": 0}, [data], {"torch": "2"})
    assert origin_of({"seed": 1}, [data], {"torch": "2"})["params"] != origin["params"]
    assert origin_of({"seed": 0}, [data], {"torch": "3"})["engine"] != origin["engine"]
    data.write_bytes(b"b")
    assert origin_of({"seed": 0}, [data], {"torch": "2"})["data"] != origin["data"]
