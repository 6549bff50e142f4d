"""What the documents name is there."""

import re

from .conftest import ROOT


def test_every_test_that_the_reliability_table_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/reliability.md").read_text())
    assert len(named) > 40
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_the_readme_shows_every_module() -> None:
    readme = (ROOT / "README.md").read_text()
    for module in (ROOT / "src/mnist_pipeline").rglob("*.py"):
        assert module.name == "__init__.py" or module.name in readme, module.name
