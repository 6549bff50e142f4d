"""dvc.yaml lists the code and the params that each stage uses, requirements.lock its packages."""

import re
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

from mnist_pipeline.common import params
from mnist_pipeline.common.params import NOT_INPUTS

from .code_deps import DVC_YAML, ROOT, code_deps, listed_deps, stages
from .project import Project

STAGES = stages()


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_listed_is_the_code_loaded(stage: str) -> None:
    loaded, listed = set(code_deps(stage)), set(listed_deps(stage))
    missing, surplus = loaded - listed, listed - loaded
    assert not missing | surplus, f"'make deps' mends it: {missing=}, {surplus=}"


def test_every_module_is_used_by_a_stage() -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert modules <= {dep for stage in STAGES for dep in listed_deps(stage)}


@pytest.mark.parametrize("stage", STAGES)
def test_the_params_listed_are_those_the_stage_can_read(stage: str) -> None:
    readable = getattr(params, f"{stage.title()}Params").model_fields
    blocks = {block: choice for choice, block in params.BLOCKS.items()}
    expected = {
        f"{name}.${{{blocks[name]}}}" if name in blocks else name
        for name in readable
        if name not in NOT_INPUTS
    }
    assert set(yaml.safe_load(DVC_YAML.read_text())["stages"][stage]["params"]) == expected


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
    for stage in STAGES:
        # -S: no site-packages but those
        project.run("python", "-S", f"stages/{stage}.py", PYTHONPATH=str(tmp_path))
    assert project.outs() == before
