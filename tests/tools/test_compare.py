"""Which classes two sides differ in."""

import numpy as np
import pytest
from compare import Side, compare


@pytest.mark.parametrize(("num_classes", "shown"), [(30, 30), (200, 20)])
def test_of_many_classes_those_that_differ_most_are_shown(
    capsys: pytest.CaptureFixture[str], num_classes: int, shown: int
) -> None:
    actual = np.array([f"{number:03}" for number in range(num_classes)] * 3)
    better = np.full((1, len(actual)), "999")
    better[0, [25, 17 + num_classes, 17]] = ["025", "017", "017"]
    worse = np.full_like(better, "999")
    compare(Side("a", ["a"], actual, better), Side("b", ["b"], actual, worse), by_class=True)
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()[1:]
    if shown < num_classes:
        assert table.pop() == "These 20 of 200 classes differ most in their errors"
        assert [row.split()[:4] for row in table[:3]] == [
            ["017", "3", "1", "3"],
            ["025", "3", "2", "3"],
            ["000", "3", "3", "3"],
        ]
    assert len(table) == shown
