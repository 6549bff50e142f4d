"""A scratch clone of this working tree, in which tests run the real make, dvc and git."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML  # what dvc reads YAML with

from ..conftest import CHOSEN

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.prefix)
BIN = Path(sys.executable).parent  # not resolved: the environment's, not the base interpreter's

ALL = ["download", "preprocess", "train", "evaluate"]

# On the digits a training of moments, by settings of their own.
SMALL = CHOSEN | {"dataset": "digits", "optimizer": "adam", "epochs": 3, "log_every": 20}


class Project:
    """A project in `folder`; its commands see no network, no user's settings, no MNIST_MIRROR."""

    environment = VENV
    """What commands find on PATH; with a fork server, an environment like it that asks there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder.parent / f"{folder.name} home"
        home.mkdir(exist_ok=True)
        nowhere = f"http://127.0.0.1:{free_port()}"
        dropped = ("MNIST_MIRROR", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        self.env = {name: value for name, value in os.environ.items() if name not in dropped} | {
            "PATH": os.pathsep.join([str(self.environment / BIN.name), os.environ["PATH"]]),
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "DVC_SITE_CACHE_DIR": str(home / "dvc"),
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "http_proxy": nowhere,
            "https_proxy": nowhere,
            "no_proxy": "127.0.0.1,localhost",
        }
        (home / ".gitconfig").write_text("[user]\n\tname = Reader\n\temail = reader@example.org\n")

    @classmethod
    def copy_of_working_tree(cls, folder: Path) -> "Project":
        """Every file that git tracks or would, as one commit; without data under `dvc add`."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, names.decode().split("\0")):
            if (ROOT / name).is_file() and not name.endswith(".dvc"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        project = cls(folder)
        params = project.read("params.yaml")
        project.set_params(**{key: value for key, value in CHOSEN.items() if params[key] != value})
        project.run("git", "init", "--quiet", "--initial-branch=main")
        project.commit("all of it")
        return project

    def copy(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def install(self, environment: Path | None = None) -> None:
        """Give it an environment in place of an installation of minutes."""
        (self.folder / ".venv").symlink_to(environment or self.environment)

    def run(self, *command: str, status: int | None = 0, cwd: str | None = None, **env: str) -> str:
        """Run a command in the project; its output, both streams in their order."""
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,  # of what hangs, not of what is slow
        )
        assert status in (None, done.returncode), f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str, status: int | None = 0, **env: str) -> str:
        return self.run("dvc", *arguments, status=status, cwd=None, **env)

    def stages(self, *names: str, cwd: str | None = None) -> str:
        """Run the scripts of stages; their output, with the exit code of each that failed."""
        scripts = [str(self.folder / f"stages/{name}.py") for name in names]
        return self.run(
            "python", str(Path(__file__).with_name("run_scripts.py")), *scripts, cwd=cwd
        )

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def read(self, name: str) -> Any:
        text = (self.folder / name).read_text("utf-8")
        return json.loads(text) if name.endswith(".json") else YAML(typ="safe").load(text)

    def set_params(self, **settings: object) -> None:
        """Change top-level settings of params.yaml as a person would, keeping its comments."""
        path = self.folder / "params.yaml"
        lines = path.read_text().splitlines(keepends=True)
        for name, value in settings.items():
            (index,) = [i for i, line in enumerate(lines) if line.startswith(f"{name}:")]
            lines[index] = f"{name}: {json.dumps(value)}\n"
        path.write_text("".join(lines))

    def outs(self) -> dict[str, bytes]:
        """Every file that the stages wrote, by its name, without .gitignore and temporary files."""
        folders = ("data/raw", "data/processed", "models", "metrics")
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for folder in folders
            for path in sorted((self.folder / folder).rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def ran(output: str) -> list[str]:
    """The stages that a dvc command ran, in their order."""
    marker = "Running stage '"
    return [line.split("'")[1] for line in output.splitlines() if line.startswith(marker)]
