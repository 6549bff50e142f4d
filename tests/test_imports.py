"""The packages import each other in one direction only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

LIBRARY = ROOT / "src/mnist_pipeline"
LOWEST = {"runtime", "common"}
MAY_IMPORT = {
    "training": {"model", "splits", *LOWEST},
    "evaluation": {"model", "splits", *LOWEST},
    "model": {"splits", *LOWEST},
    "splits": {"raw", "handwriting", *LOWEST},
    "raw": {"common"},
    "handwriting": {"common"},
    "runtime": {"common"},
    "common": set(),
}


def imported_packages(module: Path) -> set[str]:
    """The packages of the library that a module imports, its own included."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            parent = module.relative_to(LIBRARY).parts[:-1]
            path = [*parent[: len(parent) - node.level + 1], *(node.module or "").split(".")]
            found.add(path[0])
        elif isinstance(node, ast.ImportFrom) and node.module:
            package, *path = node.module.split(".")
            if package == LIBRARY.name:
                found |= {path[0]} if path else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {path[1] for path in names if path[0] == LIBRARY.name and path[1:]}
    return found


def test_every_package_has_its_arrows() -> None:
    packages = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    arrows = {
        module.relative_to(LIBRARY).as_posix(): imported_packages(module) - {package}
        for module in (LIBRARY / package).rglob("*.py")
    }
    found = set().union(*arrows.values())
    print(f"{package} -> {', '.join(sorted(found)) or 'nothing'}")
    assert found <= MAY_IMPORT[package], arrows


def test_the_library_imports_no_script() -> None:
    folders = [ROOT / "stages", ROOT / "tools", *ROOT.glob("extras/*/")]
    scripts = {path.stem for folder in folders for path in folder.glob("*.py")} | {"extras"}
    for module in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] not in scripts, module
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & scripts, module


def test_package_files_hold_only_a_docstring() -> None:
    for path in LIBRARY.rglob("__init__.py"):
        (statement,) = ast.parse(path.read_text("utf-8")).body
        assert isinstance(statement, ast.Expr), path


def test_handwriting_needs_little() -> None:
    """Numpy, scipy, Pillow and the error class: it can be copied into another project."""
    allowed = {"numpy", "scipy", "PIL", "common.errors", *sys.stdlib_module_names}
    for module in (LIBRARY / "handwriting").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level != 1:
                name = node.module or ""
                assert (name if node.level else name.split(".")[0]) in allowed, f"{module}: {name}"
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
                assert names <= allowed, module


def test_download_and_preprocess_need_no_torch_to_validate_settings() -> None:
    code = """
import sys
sys.path.insert(0, "src")
import mnist_pipeline.raw.sources, mnist_pipeline.splits.read, mnist_pipeline.splits.write
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
