"""Files are whole or absent."""

import errno
import json
import math
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_pipeline.common import files
from mnist_pipeline.common.errors import UserError
from mnist_pipeline.common.files import (
    LEFTOVER_AGE,
    atomic,
    six_digits,
    write_csv,
    write_json,
    write_rows,
)


def test_a_file_that_fails_halfway_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_processes_may_write_a_file_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with atomic(path) as first:
        first.write_text("first")
        with atomic(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_behind_is_removed_a_day_later(tmp_path: Path) -> None:
    leftovers = [tmp_path / ".a.json.1.partial", tmp_path / ".raw.2.partial"]
    leftovers[0].touch()
    (leftovers[1] / "MNIST").mkdir(parents=True)
    write_json(tmp_path / "a.json", {})
    assert set(tmp_path.iterdir()) == {tmp_path / "a.json", *leftovers}, "perhaps still written"
    old = time.time() - LEFTOVER_AGE - 1
    for leftover in leftovers:
        os.utime(leftover, (old, old))
    write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_advice_on_windows_is_for_powershell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it's"
    path.touch()
    monkeypatch.setattr(files, "os", SimpleNamespace(name="nt"))
    quoted = str(path).replace("'", "''")
    assert files.written_by("train", path).endswith(
        'in its cache: attrib -R "$(dvc cache dir)\\*" /S;'
        f" del -Force -LiteralPath '{quoted}'; dvc repro train"
    )


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match="No space") as caught, atomic(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write says it: without a name
    assert caught.value.filename == str(path)
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught, atomic(path) as temporary:
        temporary.touch()
    assert caught.value.filename == str(path)


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


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


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(st.tuples(st.integers(0, 2**31), NUMBERS, st.none() | NUMBERS), min_size=1)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_rows_are_written_as_tables_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, float | None]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    named = [dict(zip(["epoch", "loss", "accuracy"], row, strict=True)) for row in rows]
    write_rows(folder / "rows.csv", named)
    write_csv(folder / "table.csv", pd.DataFrame(named))
    assert (folder / "rows.csv").read_bytes() == (folder / "table.csv").read_bytes()
