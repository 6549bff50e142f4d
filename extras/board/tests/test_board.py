"""`make board`: TensorBoard in a real Chromium, while runs start, go on and end."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import expect

from tests.browser import chromium
from tests.pipeline.layouts import larger_repository
from tests.pipeline.project import SMALL, Project

pytestmark = pytest.mark.pipeline

PATIENCE = 120  # seconds; a busy machine is slow to start a run
HISTORY = "metrics/history.csv"
HEADER = "epoch,lr,train_loss,train_accuracy,validation_loss,validation_accuracy\n"


class Board:
    """TensorBoard, asked as its page asks it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **query: str) -> Any:
        with urlopen(f"{self.address}data/{path}?{urlencode(query)}", timeout=60) as answer:
            return json.load(answer)

    def runs(self) -> set[str]:
        return set(self.ask("runs"))

    def tags(self, run: str) -> set[str]:
        return set(self.ask("plugin/scalars/tags").get(run, ()))

    def accuracies(self, run: str) -> list[float]:
        """Accuracy on the training split after each epoch; empty if the run is not shown."""
        if "accuracy/train" not in self.tags(run):  # a run may be listed before it is read
            return []
        rows = self.ask("plugin/scalars/scalars", run=run, tag="accuracy/train")
        assert [epoch for _, epoch, _ in rows] == list(range(1, len(rows) + 1))
        return [accuracy for _, _, accuracy in rows]

    def params(self, run: str) -> dict[str, Any]:
        """The params of a run."""
        request = {"allowedStatuses": ["STATUS_SUCCESS"], "sliceSize": 100}
        groups = self.ask("plugin/hparams/session_groups", request=json.dumps(request))
        return {
            session["name"]: group["hparams"]
            for group in groups["sessionGroups"]
            for session in group["sessions"]
        }.get(run, {"seed": None})


@contextmanager
def board_of(project: Project) -> Iterator[Board]:
    with running(project, "python", "extras/board/board.py", "--port", "0") as board:
        assert board.stdout is not None
        said = board.stdout.readline()
        found = re.fullmatch(
            r"TensorBoard at (http://127\.0\.0\.1:\d+/) \(Ctrl-C stops it\)\n", said
        )
        assert found, said
        yield Board(found[1])
        board.send_signal(signal.SIGINT)
        assert board.communicate(timeout=PATIENCE)[0] == "interrupted\n"


@contextmanager
def running(project: Project, *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command until the end of the block, which kills it and its children."""
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def write_history(project: Project, *accuracies: float) -> None:
    """Write the history of a run in the workspace."""
    rows = [f"{epoch},0.1,1.5,{value},1.5,0.5\n" for epoch, value in enumerate(accuracies, 1)]
    temporary = project.folder / "metrics/.history.partial"
    temporary.write_text(HEADER + "".join(rows))
    temporary.replace(project.folder / HISTORY)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_run_appears_in_the_page_and_leaves_it_when_it_is_killed(project: Project) -> None:
    project.dvc("exp", "save", "--name", "finished")
    write_history(project, 0.125, 0.25)
    expect.set_options(timeout=PATIENCE * 1000)
    with board_of(project) as board, chromium() as browser:
        wait_until(lambda: board.runs() == {"main", "finished", "workspace"})
        page = browser.new_page()
        page.goto(board.address)
        for name in ("main", "finished", "workspace"):
            expect(page.get_by_text(name, exact=True).first).to_be_visible()
        assert {"test/accuracy", "test/errors"} < board.tags("finished")

        options = ("--temp", "--name", "started", "-S", "epochs=100000", "-S", "seed=2")
        with running(project, "dvc", "exp", "run", *options):
            wait_until(lambda: bool(board.accuracies("started (running)")))
            page.reload()
            expect(page.get_by_text("started (running)", exact=True).first).to_be_visible()
            assert "test/accuracy" not in board.tags("started (running)")
            wait_until(lambda: board.params("started (running)").get("epochs") == 100000)
        wait_until(lambda: board.runs() == {"main", "finished", "workspace"})


def test_a_history_is_shown_with_the_params_of_its_own_run(project: Project) -> None:
    with board_of(project) as board:
        wait_until(lambda: board.runs() == {"main"})  # the workspace is the same

        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(board.address, headers={"Host": "other.example:6006"}), timeout=60)
        forwarded = Request(board.address, headers={"Host": "localhost:9000"})
        assert urlopen(forwarded, timeout=60).status == 200

        project.install()
        port = board.address.split(":")[2].strip("/")
        output = project.run("make", "board", f"PORT={port}", status=2)
        assert f"error: port {port}: Address already in use; choose another: make" in output

        project.set_params(seed=5)
        write_history(project, 0.125)
        wait_until(lambda: board.accuracies("workspace") == [0.125])
        wait_until(lambda: board.params("workspace")["seed"] == 5)

        project.set_params(seed=6)  # for the next run
        write_history(project, 0.125, 0.25)
        wait_until(lambda: board.accuracies("workspace") == [0.125, 0.25])
        wait_until(lambda: board.params("workspace")["seed"] == 5)

        write_history(project, 0.375)
        wait_until(lambda: board.accuracies("workspace") == [0.375])
        wait_until(lambda: board.params("workspace")["seed"] == 6)

        # An experiment in the workspace, which begins with this history and HEAD's test metrics.
        with running(project, "dvc", "exp", "run", "--name", "third", "train") as process:
            wait_until(lambda: "third" in board.runs())
            assert board.accuracies("third")[0] != 0.375
            process.communicate(timeout=PATIENCE)

    project.set_params(seed=7)
    project.env["DVC_EXP_NAME"] = "mine"  # as a user may export it: no run
    with board_of(project) as board:  # another, which knows only what DVC has recorded
        wait_until(lambda: board.runs() == {"main", "third"})
        assert len(board.accuracies("third")) == SMALL["epochs"]
        wait_until(lambda: board.params("third")["seed"] == 6)
        assert "test/accuracy" in board.tags("main") - board.tags("third")


def test_a_folder_of_a_larger_repository(quick_project: Project, tmp_path: Path) -> None:
    project = larger_repository(quick_project, tmp_path)
    project.dvc("exp", "run", "-S", "seed=1", "--name", "one")
    code = "import board; print(*board.find_runs())"
    found = project.run("python", "-c", code, PYTHONPATH="extras/board").split()
    assert set(found) == {"main", "one"}
