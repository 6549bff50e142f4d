"""Files are whole or absent."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.files import atomic, six_digits, write_csv, write_json


def test_a_file_that_fails_halfway_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_reads_back(tmp_path: Path) -> None:
    write_json(tmp_path / "new folder/a.json", {"accuracy": 0.5, "name": "é"})
    assert json.loads((tmp_path / "new folder/a.json").read_text("utf-8"))["name"] == "é"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_holds_only_finite_numbers(tmp_path: Path, value: float) -> None:
    with pytest.raises(UserError, match=r"a\.json: not written: .* expected finite numbers"):
        write_json(tmp_path / "a.json", {"loss": value})
    assert list(tmp_path.iterdir()) == []


def test_csv_has_six_digits_and_empty_cells(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 1234567], "b": [None, 0.123456789], "c": ["x,y", "é"]})
    write_csv(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_text("utf-8") == 'a,b,c\n1,,"x,y"\n1234567,0.123457,é\n'


def test_six_digits_leave_counts_alone() -> None:
    assert six_digits({"errors": 1234567, "loss": 0.123456789, "lr": 1.23456789e-7}) == {
        "errors": 1234567,
        "loss": 0.123457,
        "lr": 1.23457e-7,
    }
