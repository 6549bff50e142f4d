"""Never stale: what has changed re-runs what uses it, and nothing else."""

import ast
import time
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from dvc.repo import Repo

from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.training.settings import TrainSettings

from ..settings import BLOCKS, STAGES, Params
from .project import ROOT, Project
from .test_code_deps import code_listed, untracked

MODULES = sorted((ROOT / "src/mnist_pipeline").rglob("*.py"))


def stale(project: Project) -> set[str]:
    """The stages that dvc would run for changes of their own inputs, as `dvc status` lists them."""
    with Repo(str(project.folder)) as repo:  # a process per call would take most of the time
        return {name.rpartition(":")[2] for name in repo.status()}  # path/to/dvc.yaml:stage


def test_a_changed_module_makes_the_stages_that_use_it_stale_and_no_others(
    project: Project,
) -> None:
    table = {}
    one_per_package = {module.parent: module for module in MODULES}.values()
    for module in (*one_per_package, *(ROOT / "stages").glob("*.py")):
        name = module.relative_to(ROOT).as_posix()
        expected = {
            stage
            for stage in STAGES
            if any(PurePosixPath(name).is_relative_to(dep) for dep in code_listed(stage))
        }
        path = project.folder / name
        path.write_bytes(module.read_bytes() + b"\n# changed\n")
        table[name] = (expected, stale(project))
        path.write_bytes(module.read_bytes())
    for name, (expected, found) in table.items():
        print(f"{name:50} {', '.join(sorted(found))}")
        assert found == expected != set(), name
        if PurePosixPath(name).parent.name in ("model", "training", "evaluation", "runtime"):
            assert not found & {"download", "preprocess"}, name
        assert "/evaluation/" not in name or found == {"evaluate"}
        assert "/training/" not in name or found == {"train"}


def test_what_lies_beside_a_module_makes_nothing_stale(project: Project) -> None:
    for name in ("training/.loop.py.swp", "training/__pycache__/loop.cpython-313.pyc", "raw/notes"):
        path = project.folder / "src/mnist_pipeline" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no module")
    assert stale(project) == set()
    (project.folder / "src/mnist_pipeline/training/new.py").write_text('"""New."""\n')
    assert stale(project) == {"train"}


def test_no_module_of_ours_is_imported_where_the_list_would_miss_it() -> None:
    """Only an import that runs when the script is loaded is seen by test_code_deps.py."""
    for module in MODULES:
        for function in ast.walk(ast.parse(module.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    assert not (isinstance(node, ast.ImportFrom) and node.level), module
                    assert "import_module" not in ast.dump(node), module


def changed(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "?"
        case list():
            return [*value, 1]
    return {key: changed(entry) for key, entry in value.items()}


def test_settings_make_stale_exactly_the_stages_that_read_them(project: Project) -> None:
    content = project.read("params.yaml")
    chosen = {block: choice for choice, block in BLOCKS.items()}

    def stale_with(name: str, value: Any) -> set[str]:
        text = yaml.safe_dump(content | {name: value})
        (project.folder / "params.yaml").write_text(text)
        return stale(project)

    assert set(content) == set(Params.model_fields)
    for name, value in content.items():
        readers = {stage for stage in STAGES if name in STAGES[stage].model_fields}
        expected = {stage for stage in readers if name not in untracked(stage)}
        if name in chosen:
            key = content[chosen[name]]
            others = changed(value) | {key: value[key]}
            assert stale_with(name, others) == set(), f"{name}: only others were changed"
            value = value | {key: changed(value[key]) or {"new": 1}}
            assert stale_with(name, value) == expected, name
        elif name in BLOCKS:
            other = [key for key in content[BLOCKS[name]] if key != value]
            assert stale_with(name, other[0]) == expected, name
        else:
            assert stale_with(name, changed(value)) == expected, name


def test_what_shapes_a_run_is_what_dvc_is_told(project: Project) -> None:
    """A checkpoint is bound to the same settings as dvc.lock."""
    inputs = read_settings(project.folder / "params.yaml", TrainSettings).inputs()
    lock = project.read("dvc.lock")["stages"]["train"]["params"]["params.yaml"]
    for choice, block in TrainSettings.choices().items():
        assert inputs.pop(block) == lock.pop(f"{block}.{inputs[choice]}")
    lock.pop("launcher")  # only the number of processes counts, see arithmetic.environment
    assert inputs == lock


def wait_for_queue(project: Project, count: int) -> list[str]:
    """The state of each task in the queue once `count` have succeeded or one has failed.

    DVC calls a task failed, too, whose process has ended and whose result is not yet written.
    """
    deadline = time.monotonic() + 300 * count
    failed = 0
    while True:
        with Repo(str(project.folder)) as repo:  # a process per look would slow the workers down
            states = [task["status"] for task in repo.experiments.celery_queue.status()]
        failed = failed + 1 if "Failed" in states else 0
        if states.count("Success") >= count or failed == 4 or time.monotonic() > deadline:
            return states
        time.sleep(0.5)


def test_a_queued_experiment_runs_the_code_it_was_queued_with(
    project: Project, tmp_path: Path
) -> None:
    project.dvc("exp", "run", "--queue", "--name", "queued", "-S", "seed=1", "train")
    elsewhere = tmp_path / "installed/mnist_pipeline"
    elsewhere.mkdir(parents=True)
    for package in (project.folder / "src/mnist_pipeline", elsewhere):
        (package / "__init__.py").write_text("raise SystemExit('the wrong code')\n")
    project.env["PYTHONPATH"] = str(elsewhere.parent)
    assert "the wrong code" in project.run("python", "stages/train.py", status=1)
    project.dvc("queue", "start")
    try:
        tasks = wait_for_queue(project, 1)
    finally:
        project.dvc("queue", "stop", "--kill")
    assert "Success" in tasks, tasks


def test_a_renewed_lock_makes_the_stages_that_compute_stale(project: Project) -> None:
    lock = project.folder / "requirements.lock"
    lock.write_text(lock.read_text().replace("torch==", "torch==99."))
    assert stale(project) == {"preprocess", "train", "evaluate"}
    project.run("git", "checkout", "--quiet", "requirements.lock")
    tools = project.folder / "tools.lock"
    tools.write_text(tools.read_text() + "\n# a new tool\n")
    assert stale(project) == set()
