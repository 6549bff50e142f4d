"""Files are whole or absent."""

import json
from pathlib import Path

import pytest

from mnist_pipeline.files import atomic, six_digits, write_csv, write_json


def test_a_file_that_fails_halfway_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_and_csv_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "new folder/a.json", {"accuracy": 0.5, "name": "é"})
    assert json.loads((tmp_path / "new folder/a.json").read_text("utf-8"))["name"] == "é"
    write_csv(tmp_path / "a.csv", [{"a": 1, "b": None}, {"a": 2, "b": "x,y"}])
    assert (tmp_path / "a.csv").read_bytes() == b'a,b\n1,\n2,"x,y"\n'


def test_six_digits_leave_counts_alone() -> None:
    assert six_digits({"errors": 1234567, "loss": 0.123456789, "lr": 1.23456789e-7}) == {
        "errors": 1234567,
        "loss": 0.123457,
        "lr": 1.23457e-7,
    }
