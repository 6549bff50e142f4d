"""Nothing but documentation names an extra, so that its folder can be deleted."""

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT

EXTRAS = sorted(path.parent for path in ROOT.glob("extras/*/targets.mk"))
CORE = ("src", "stages", "tools", "tests", ".ci", ".github", "Makefile", ":(glob)*.*ml")
COMMON = {"README.md", "pyproject.toml", "targets.mk"}  # files of every extra


def names_of(extra: Path) -> set[str]:
    """Patterns of what names an extra: its folder, files, modules and targets."""
    files = {path.name for path in extra.rglob("*.*") if path.name not in COMMON}
    targets = re.findall(r"^([a-z]+):(?!:)", (extra / "targets.mk").read_text("utf-8"), re.M)
    return {
        *(re.escape(name) for name in {*files, f"extras/{extra.name}", f"extras.{extra.name}"}),
        *(f"make {target}" for target in targets),
        *(rf"^ *(?:import|from) {module.stem}" for module in extra.glob("*.py")),
    }


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.name)
def test_nothing_else_names_an_extra(extra: Path) -> None:
    pattern = "|".join(rf"(?<!\w){name}\b" for name in sorted(names_of(extra)))
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *CORE]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    core = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert len(core) > 100
    others = [path for other in EXTRAS if other != extra for path in other.rglob("*.py")]
    for path in [*core, *ROOT.glob("extras/*.py"), *others]:
        found = re.findall(pattern, path.read_text("utf-8"), re.M)
        assert not found, f"{path.relative_to(ROOT)} names {extra.name}: {found}"
