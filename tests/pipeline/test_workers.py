"""Workers on one machine share its cores and GPUs."""

import json
import os
import shutil
from pathlib import Path

import pytest

from .project import Project
from .test_stale import wait_for_queue


def recorded(project: Project) -> list[str]:
    return sorted(path.read_text() for path in Path(project.env["MEETING"]).iterdir())


def threads(workers: int) -> str:
    return str(max(1, len(os.sched_getaffinity(0)) // workers))


def test_each_worker_of_the_queue_has_a_gpu_of_its_own(project_on_gpus: Project) -> None:
    project = project_on_gpus
    project.env["WORKERS_MET"] = "3"
    project.dvc("exp", "run", "--queue", "-S", "seed=1,2,3")
    project.run("sh", "-c", "make queue WORKERS=3 >log 2>&1")  # the workers would hold a pipe open
    try:
        tasks = wait_for_queue(project, 3)
    finally:
        project.dvc("queue", "stop", "--kill")
    assert tasks.count("Success") == 3, tasks
    assert recorded(project) == [f"['{gpu}', '{threads(3)}']" for gpu in range(3)]
    assert (project.folder / "log").read_text() == "Started 3 workers\n"


def test_a_queue_needs_git_and_a_worker(project_on_gpus: Project) -> None:
    project = project_on_gpus
    output = project.run("python", "tools/workers.py", "0", status=1)
    project.folder = project.folder.rename(project.folder.with_name("é"))
    output += project.run("python", "tools/workers.py", "1", status=1)
    shutil.rmtree(project.folder / ".git")
    output += project.run("make", "queue", status=2)
    assert "error: workers: found 0, expected a positive integer" in output
    assert "é: found # or ? or a letter outside ASCII in the path" in output
    assert "error: DVC needs the project as a commit of a Git repository" in output
    assert "Traceback" not in output


def test_only_cores_that_may_be_used_are_shared(project_on_gpus: Project) -> None:
    code = "import os, workers; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "os.cpu_count = lambda: 8; print(workers.shares(2)[0]['OMP_NUM_THREADS'])"
    assert project_on_gpus.run("python", "-c", code, PYTHONPATH="tools") == "1\n"


@pytest.mark.parametrize(
    ("workers", "chosen", "expected"),
    [
        (1, None, [None]),
        (2, None, ["0", "1"]),
        (4, None, ["0", "1", "2", "0"]),
        (2, "3", ["3", "3"]),
        (2, "", [None, None]),
    ],
)
def test_shares(
    project_on_gpus: Project, workers: int, chosen: str | None, expected: list[str | None]
) -> None:
    project = project_on_gpus
    if chosen is not None:
        project.env["CUDA_VISIBLE_DEVICES"] = chosen
    code = "import json, sys, workers; print(json.dumps(workers.shares(int(sys.argv[1]))))"
    output = project.run("python", "-c", code, str(workers), PYTHONPATH="tools")
    assert [share.get("CUDA_VISIBLE_DEVICES") for share in json.loads(output)] == expected
