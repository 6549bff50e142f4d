"""What the documents name is there, and their tables are tables."""

import re
from itertools import groupby
from pathlib import Path

import pytest

from benchmarks import recipes, results

from .conftest import ROOT


def test_every_test_that_the_reliability_table_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/reliability.md").read_text())
    assert len(named) > 40
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_the_readme_shows_every_package() -> None:
    readme = (ROOT / "README.md").read_text()
    for package in (ROOT / "src/mnist_pipeline").glob("*/__init__.py"):
        assert f"\n  {package.parent.name}/ " in readme, package


def test_the_table_of_recipes_is_that_of_the_results() -> None:
    """`python benchmarks/recipes.py` writes it."""
    written = recipes.TABLE.findall((ROOT / "README.md").read_text("utf-8"))
    assert written == [recipes.table(results.read())]


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md"]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if "://" not in link:
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_row_belongs_to_a_table(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for is_table, lines in groupby(text.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            rows = [re.findall(r"(?:\\.|[^|])+", row.strip("|")) for row in lines]
            assert len(rows) > 2, f"a row without a header: {rows[0]}"
            assert all(re.fullmatch(r" *:?-+:? *", cell) for cell in rows[1]), rows[0]
            assert {len(row) for row in rows} == {len(rows[0])}, rows[0]
