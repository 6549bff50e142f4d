"""dvc.yaml lists the code and the params that each stage uses, requirements.lock its packages."""

import re
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath

import pytest
import yaml

from ..settings import BLOCKS, STAGES
from .project import ROOT, Project

LISTED = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

LOADED = """
import runpy, sys
from pathlib import Path
root = Path.cwd().resolve()
sys.path.insert(0, "stages")  # as `python stages/...` does
runpy.run_path(sys.argv[1], run_name="imported")
names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
files = {Path(name).resolve() for name in names if name}
mine = [root / "src", root / "stages"]
print(*(f.relative_to(root).as_posix() for f in files if any(map(f.is_relative_to, mine))))
"""


def code_listed(stage: str) -> set[str]:
    """The modules and packages that dvc.yaml lists for a stage."""
    return {dep for dep in LISTED[stage]["deps"] if dep.startswith(("src/", "stages/"))}


@pytest.mark.parametrize("stage", LISTED)
def test_the_code_listed_is_the_code_loaded(
    fresh_clone: Project, stage: str, tmp_path: Path
) -> None:
    script = f"stages/{stage}.py"
    (tmp_path / "loaded.py").write_text(LOADED)
    loaded = fresh_clone.run("python", str(tmp_path / "loaded.py"), script).split()
    listed, used = code_listed(stage), set()
    for module in {script, *loaded}:
        deps = {dep for dep in listed if PurePosixPath(module).is_relative_to(dep)}
        assert deps, f"{stage} imports {module}: list its package in dvc.yaml"
        used |= deps
    assert used == listed, f"{stage} imports nothing from {listed - used}"


def test_every_module_is_used_by_a_stage() -> None:
    listed = set().union(*map(code_listed, LISTED))
    for path in (ROOT / "src").rglob("*.py"):
        assert any(path.relative_to(ROOT).is_relative_to(dep) for dep in listed), path


@pytest.mark.parametrize("stage", LISTED)
def test_the_params_listed_are_those_the_stage_can_read(stage: str) -> None:
    choices = {block: choice for choice, block in BLOCKS.items()}
    expected = {
        f"{name}.${{{choices[name]}}}" if name in choices else name
        for name in STAGES[stage].model_fields
    }
    assert {*LISTED[stage]["params"], *untracked(stage)} == expected


def untracked(stage: str) -> list[str]:
    """Settings that a stage reads, and that change none of its outs."""
    names: list[str] = LISTED[stage].get("meta", {}).get("untracked", [])
    return names


def test_the_stages_need_only_the_packages_of_requirements_lock(
    project: Project, tmp_path: Path
) -> None:
    locked = re.findall(r"^([\w-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    for package in distributions():
        if re.sub("[-_.]+", "-", package.metadata["Name"]).lower() in locked:
            for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
                with suppress(FileExistsError):  # namespace packages share a folder
                    (tmp_path / name).symlink_to(str(package.locate_file(name)))
    before = project.outs()
    runner = str(Path(__file__).with_name("run_scripts.py"))
    scripts = [f"stages/{stage}.py" for stage in LISTED]
    # -S: no site-packages but those
    output = project.run("python", "-S", runner, *scripts, PYTHONPATH=str(tmp_path))
    assert "exit code" not in output
    assert project.outs() == before
