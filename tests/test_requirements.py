"""pyproject.toml and the extras declare what each script imports; the locks pin it."""

import ast
import re
import sys
from pathlib import Path

import pytest
import tomlkit

from .conftest import ROOT

# Packages that are not named like their modules.
PACKAGES = {
    "PIL": "pillow",
    "pydantic_core": "pydantic",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
    "vl_convert": "vl-convert-python",
    "yaml": "pyyaml",
}
DECLARED = sorted(ROOT.glob("extras/*/pyproject.toml"))
PYPROJECT = tomlkit.parse((ROOT / "pyproject.toml").read_text()).unwrap()


def imported(*folders: str) -> set[str]:
    """The third-party packages that the scripts in some folders import, anywhere in their code."""
    return set().union(*(imports(path) for name in folders for path in (ROOT / name).rglob("*.py")))


def imports(script: Path) -> set[str]:
    """The third-party packages that a script imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    own = {path.stem for path in script.parent.glob("*.py")} | {
        *(path.stem for path in (ROOT / "tools").glob("*.py")),
        "mnist_pipeline",
        "_stage",
        "extras",
        "tests",
    }
    return {PACKAGES.get(name, name) for name in names - own - sys.stdlib_module_names}


def declared(group: str | None = None) -> set[str]:
    """The packages of a dependency group, with those that it includes; else of the project."""
    entries = (
        PYPROJECT["dependency-groups"][group] if group else PYPROJECT["project"]["dependencies"]
    )
    return set().union(
        *(
            {name_of(entry)} if isinstance(entry, str) else declared(*entry.values())
            for entry in entries
        )
    )


def name_of(requirement: str) -> str:
    """The package that a requirement is for."""
    return re.split("[ <>=[]", requirement)[0]


def listed(extra: Path, group: str) -> set[str]:
    """The packages in a group of an extra."""
    path = extra / "pyproject.toml"
    groups = tomlkit.parse(path.read_text()).unwrap() if path.exists() else {}
    return {name_of(entry) for entry in groups.get("dependency-groups", {}).get(group, [])}


def entries(lock: str) -> list[tuple[str, str, str]]:
    """Name, version and whole text of each entry of a lock."""
    text = (ROOT / lock).read_text()
    return [
        (match[1], match[2], match[0])
        for match in re.finditer(r"^([\w-]+)==(\S+) .*\n(?: .*\n)*", text, re.MULTILINE)
    ]


def test_the_dependencies_are_what_the_stages_import() -> None:
    assert imported("stages", "src") == declared()


@pytest.mark.parametrize("tool", [path.stem for path in (ROOT / "tools").glob("*.py")])
def test_the_group_of_a_tool_has_what_it_imports(tool: str) -> None:
    group = tool if tool in PYPROJECT["dependency-groups"] else "repro"
    assert imports(ROOT / f"tools/{tool}.py") <= declared() | declared(group)


def test_the_dev_group_has_everything() -> None:
    for group in PYPROJECT["dependency-groups"]:
        assert declared(group) <= declared("dev")
    assert imported("tests", "tools") <= declared() | declared("dev")


@pytest.mark.parametrize("extra", sorted(path.parent for path in ROOT.glob("extras/*/targets.mk")))
def test_an_extra_lists_what_it_imports(extra: Path) -> None:
    own = listed(extra, "run")
    for script in extra.glob("*.py"):
        assert imports(script) <= declared() | declared("repro") | own
    for test in extra.glob("tests/*.py"):
        assert imports(test) <= declared() | declared("dev") | own | listed(extra, "test")


def test_the_locks_pin_what_is_declared() -> None:
    for lock, packages, source in (
        ("requirements.lock", declared(), "mnist-pipeline (pyproject.toml)"),
        ("tools.lock", declared("dev"), "mnist-pipeline (pyproject.toml:dev)"),
        *(
            (
                "tools.lock",
                listed(path.parent, group),
                f"{path.relative_to(ROOT).as_posix()}:{group})",
            )
            for path in DECLARED
            for group in ("run", "test")
        ),
    ):
        asked = {name for name, _, text in entries(lock) if source in text}
        assert asked == packages, "'make lock' mends it"
    for lock, group in (("requirements.lock", ""), ("tools.lock", ":dev")):
        text = (ROOT / lock).read_text().replace(f"(pyproject.toml{group})", "")
        assert "(pyproject.toml" not in text


def test_the_locks_agree_and_have_hashes_only() -> None:
    versions: dict[str, set[str]] = {}
    for name, version, text in entries("requirements.lock"):
        versions.setdefault(name, set()).add(version)
        assert "--hash=sha256:" in text
    for name, version, text in entries("tools.lock"):
        assert version in versions.get(name, {version}), name
        assert "--hash=sha256:" in text
    for lock in ("requirements.lock", "tools.lock"):
        assert "://" not in (ROOT / lock).read_text()
