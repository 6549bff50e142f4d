"""What the pages say of recipes and speed, against the files it comes from."""

from pathlib import Path

import pytest

from extras.benchmarks import recipes, results, runs

README = recipes.README.read_text("utf-8")


def test_the_tables_of_recipes_are_those_of_the_results() -> None:
    """`python extras/benchmarks/recipes.py` writes them."""
    for page, rows in (
        (recipes.README, recipes.shown_rows(results.read())),
        (recipes.ALL, recipes.all_rows(results.read())),
    ):
        _, written, _ = runs.read_table(page, "recipes")
        assert written == recipes.table(rows)


def test_a_row_of_other_code_or_settings_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = {"runs": 2, "accuracy": 99.0, "standard_error": 0.01, "seconds": 3.0, "threads": 1,
           "precision": "float32", "date": "2026-11-29"}  # fmt: skip
    row |= {"settings": recipes.settings("quick"), "code": recipes.code("quick")}

    def shown() -> str:
        return recipes.recipe_row("quick", "AMD EPYC, AVX2, 2 cores", row)

    assert shown() == (
        "| `quick`: one epoch | 99.00 ± 0.01 % (2 seeds) | 100 | 3 s"
        " | AMD EPYC, AVX2, 1 thread, float32; 2026-11-29 |"
    )
    for name in ("params.yaml", "dvc.yaml", "requirements.lock", "recipes", "src", "stages"):
        (tmp_path / name).symlink_to(recipes.ROOT / name)
    monkeypatch.setattr(recipes, "ROOT", tmp_path)
    assert "earlier" not in shown()
    for name, change in (("params.yaml", ("relu        # as", "gelu        # as")),
                         ("requirements.lock", ("==", "== "))):  # fmt: skip
        before = (tmp_path / name).read_text("utf-8")
        (tmp_path / name).unlink()
        (tmp_path / name).write_text(before.replace(*change), "utf-8")
        assert shown().endswith("; 2026-11-29, earlier code |")
        (tmp_path / name).write_text(before, "utf-8")
        assert "earlier" not in shown()
    row["settings"] = "another"
    assert shown().startswith("| `quick`, earlier settings |")


def test_the_speed_on_the_pages_is_that_of_the_results() -> None:
    name, loops = section("loops")
    assert f"takes {loops['844 steps, project']:.1f} s in one thread of an {name}" in README
    assert round(loops["tutorial / project"]) == 8
    assert "an eighth of the time" in README

    name, rows = section("processes")
    seconds = [f"{rows[f'processes: {count}, training']:.1f}" for count in (1, 2, 4)]
    differs = [f"{rows[f'processes: {count}, validation loss differs']:.0f}" for count in (2, 4)]
    scaling = " ".join((recipes.ROOT / "docs/scaling.md").read_text("utf-8").split())
    assert "took {} s in one process, {} s in two and {} s in four".format(*seconds) in scaling
    assert "more than {} millionths in two processes, {} in four".format(*differs) in scaling
    assert f"of an {name}" in scaling


def section(name: str) -> tuple[str, dict[str, float]]:
    """The processor of a section of the results and, by row, its values."""
    machine, found = next((key, each[name]) for key, each in results.read().items() if name in each)
    processor, flag, _ = machine.split(", ")
    return f"{processor} with {flag}", {key: row["value"] for key, row in found["rows"].items()}
