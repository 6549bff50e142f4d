"""What the documents name is there, and their tables are tables."""

import re
from itertools import groupby
from pathlib import Path

import pytest

from .conftest import ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("extras/**/*.md")]


def test_every_test_that_a_page_names_exists() -> None:
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    named = re.findall(r"`((?:tests|extras/\w+)/[\w/]+\.py)::(\w+)`", pages)
    assert len(named) > 40
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), f"{file}::{test}"


def test_the_readme_shows_every_package() -> None:
    readme = (ROOT / "README.md").read_text()
    for package in (ROOT / "src/mnist_pipeline").glob("*/__init__.py"):
        assert f"\n  {package.parent.name}/ " in readme, package


def is_in_a_deleted_extra(path: Path) -> bool:
    """Whether a path is in a folder under extras/ of which nothing, or only bytecode, is left."""
    folder, *name = path.resolve().relative_to(ROOT).parts[:2]
    return folder == "extras" and not ROOT.joinpath(folder, *name, "README.md").exists()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if "://" not in link:
            link = re.sub(r"^../../actions/(.*\.yml).*", r".github/\1", link)  # a page of GitHub
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            if is_in_a_deleted_extra(target):
                continue
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_row_belongs_to_a_table(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for is_table, lines in groupby(text.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            rows = [re.findall(r"(?:\\.|[^|])+", row.strip("|")) for row in lines]
            assert len(rows) > 2, f"a row without a header: {rows[0]}"
            assert all(re.fullmatch(r" *:?-+:? *", cell) for cell in rows[1]), rows[0]
            assert {len(row) for row in rows} == {len(rows[0])}, rows[0]
