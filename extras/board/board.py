"""Watch runs in TensorBoard: python extras/board/board.py

Runs know nothing of it. The board reads what they write anyway, metrics/history.csv, and appends
new epochs to event files under .dvc/tmp/board, which a plain TensorBoard shows.
"""

import argparse
import csv
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from _tool import ROOT

import yaml
from workers import run_git

from mnist_pipeline.common.errors import UserError, run_script

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HOST = "127.0.0.1"
HISTORY, PARAMS, TEST = "metrics/history.csv", "params.yaml", "metrics/test.json"


class Run(NamedTuple):
    """The texts of a run's files; without history it is none."""

    history: str = ""
    params: str = ""
    test: str = ""  # once it has finished


def main() -> None:
    """Serve until Ctrl-C. Raises UserError: the port cannot be used, or TensorBoard ends."""
    parser = argparse.ArgumentParser(description="Watch runs in TensorBoard.")
    parser.add_argument("--port", type=int, default=6006, help="0 picks a free one; default: 6006")
    port = free_port(parser.parse_args().port)
    folder = ROOT / f".dvc/tmp/board/{port}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    board, log = Board(folder), folder.with_name(f"{port}.log")
    command = [sys.executable, str(Path(__file__).with_name("_serve.py"))]
    command += ["--host", HOST, "--port", str(port)]
    command += ["--logdir", str(folder), "--reload_interval", "1"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("interrupted"))
    try:
        while server.poll() is None and socket.socket().connect_ex((HOST, port)):
            time.sleep(0.2)
        print(f"TensorBoard at http://{HOST}:{port}/ (Ctrl-C stops it)", flush=True)
        while server.poll() is None:
            board.update(find_runs())
            time.sleep(2)  # twice the interval of TensorBoard
    finally:
        server.terminate()
    raise UserError(f"TensorBoard has ended; {log} says why")


def free_port(port: int) -> int:
    """The port, or a free one for 0. Raises UserError: it cannot be used."""
    try:
        with socket.create_server((HOST, port)) as probe:
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        problem = str(error.args[-1]).partition(" (")[0]
        raise UserError(f"port {port}: {problem}; choose another: make board PORT=6007") from None


def find_runs() -> dict[str, Run]:
    """HEAD by its branch, its experiments, what is running, and the workspace if it differs."""
    commit = git("rev-parse", "HEAD")
    head = read_commit(commit)
    runs = {git("branch", "--show-current") or commit[:7]: head}
    for line in git("for-each-ref", f"refs/exps/{commit[:2]}/{commit[2:]}").splitlines():
        sha, _, ref = line.split()
        found = read_commit(sha)
        if found.history != head.history and found.test == head.test:
            found = found._replace(test="")  # it has trained, and not evaluated
        runs[ref.split("/")[-1]] = found
    folders = running()
    for folder, name in folders.items():
        found = read_folder(folder)
        # A run begins with the history of another one, which is also in Git's index.
        if found.history != git("show", f":./{HISTORY}", folder=folder):
            runs[f"{name} (running)"] = found
    workspace = read_folder(ROOT)
    if ROOT not in folders and workspace.history not in {found.history for found in runs.values()}:
        runs["workspace"] = workspace
    return {name: found for name, found in runs.items() if found.history}


def running() -> dict[Path, str]:
    """The folders in which experiments run, the project or copies of it, with their names."""
    import psutil

    folders = {}
    for process in psutil.process_iter(["cwd", "environ"]):
        variables = process.info["environ"] or {}
        name = variables.get("DVC_EXP_NAME")
        if name and "DVC_STAGE" in variables:  # a user may export the name for DVCLive
            folder = Path(process.info["cwd"] or "/")
            if folder == ROOT or ROOT / ".dvc/tmp" in folder.parents:
                folders[folder] = name
    return folders


def git(*arguments: str, folder: Path = ROOT) -> str:
    """Git's answer; empty if it has none."""
    done = run_git("-C", str(folder), *arguments)
    return "" if done.returncode else done.stdout.decode().strip()


@cache
def read_commit(commit: str) -> Run:
    """The run of a commit."""
    return Run(*(git("show", f"{commit}:./{path}") for path in (HISTORY, PARAMS, TEST)))


def read_folder(folder: Path) -> Run:
    """The run in a folder."""
    with suppress(OSError):  # a file is missing, or on Windows is being replaced
        return Run(*((folder / path).read_text("utf-8").strip() for path in (HISTORY, PARAMS)))
    return Run()


class Board:
    """Event files of runs, in a folder for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown: dict[str, tuple[Run, SummaryWriter]] = {}

    def update(self, runs: dict[str, Run]) -> None:
        """Remove what is gone or has started over, and write what is new."""
        for name, (shown, writer) in list(self.shown.items()):
            if name not in runs or not runs[name].history.startswith(shown.history):
                del self.shown[name]
                writer.close()
                shutil.rmtree(self.folder / name, ignore_errors=True)
                runs.pop(name, None)  # next time: TensorBoard first has to forget the old run
        for name, found in runs.items():
            shown, writer = self.shown.get(name) or (Run(), self.start(name, found))
            for row in list(csv.DictReader(found.history.split("\n")))[shown.history.count("\n") :]:
                epoch = int(row.pop("epoch"))
                for column in filter(row.get, row):  # empty without a validation split
                    writer.add_scalar("/".join(column.split("_")[::-1]), float(row[column]), epoch)
            writer.flush()
            self.shown[name] = found, writer

    def start(self, name: str, found: Run) -> "SummaryWriter":
        """Begin with params, which one may edit while the run trains, and test metrics."""
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(self.folder / name))
        test = {f"test/{key}": value for key, value in json.loads(found.test or "{}").items()}
        epochs = found.history.count("\n")
        writer.add_hparams(flatten(found.params), test, run_name=".", global_step=epochs)
        return writer


def flatten(params: str) -> dict[str, Any]:
    """Params by name; `optimizer.lr` is that of the optimizer that is chosen."""
    flat: dict[str, Any] = {}
    with suppress(yaml.YAMLError, AttributeError):  # it is being edited
        settings = yaml.safe_load(params)
        for name, value in settings.items():
            chosen = settings.get(f"{name}s", {}).get(str(value)) or {}
            flat |= {f"{name}.{key}": entry for key, entry in chosen.items()}
            flat |= {} if isinstance(value, dict) else {name: value}
    return {key: str(value) if isinstance(value, list) else value for key, value in flat.items()}


if __name__ == "__main__":
    run_script(main)
