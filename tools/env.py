"""Install what a make target needs into .venv: python tools/env.py GROUP.

GROUP is a dependency group of pyproject.toml, named like its target, or a folder under extras/ with
a pyproject.toml of its own; "dev" is all of them. Each comes with the packages of the stages.
requirements.lock and tools.lock pin versions and hashes. If nothing is missing, this takes a moment
and no network.

TORCH=cpu in the environment asks for PyTorch's builds without CUDA on Linux; other systems have no
others. They come from PyTorch's own index, or the one at TORCH_INDEX. The locks do not have their
hashes. A .venv that has such builds keeps them.
"""

import argparse
import getpass
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        f"error: {sys.executable} is Python {sys.version.split()[0]}, expected Python 3.10 or"
        " newer; name one: make PYTHON=python3.12"
    )

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: no traceback

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN, EXE = (VENV / "Scripts", ".exe") if os.name == "nt" else (VENV / "bin", "")
PYTHON, UV = BIN / f"python{EXE}", BIN / f"uv{EXE}"
UV_INSTALL: list[str | Path] = [UV, "pip", "install", "--python", VENV]
INSTALLING = VENV / ".installing"  # exists while an installation goes on, and after a kill
PLACE = VENV / ".place"  # where .venv was made: its scripts have that path in them
GROUPS = ("run", "test")  # of an extra
TORCH = os.environ.get("TORCH", "")

# Settings that are the project's: which packages, and where to. Where from is the user's choice.
OURS = {
    "PIP": "CONSTRAINT DRY_RUN EDITABLE PREFIX PYTHON REQUIREMENT ROOT TARGET USER",
    "UV": "BUILD_CONSTRAINT CONSTRAINT EXCLUDE OVERRIDE PROJECT REQUIRE_HASHES RESOLUTION"
    " TORCH_BACKEND WORKING_DIR",
}
for program, names in OURS.items():
    for name in names.split():
        os.environ.pop(f"{program}_{name}", None)


def main() -> None:
    """Install what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("group", nargs="?", default="dev", help="default: dev, which is all")
    group = parser.parse_args().group
    if TORCH not in ("", "cpu"):
        sys.exit(f"error: TORCH: found {TORCH}, expected cpu")
    check_user()
    check_folder()
    check_repository()
    if not is_installed(group):
        check_venv(group)
        install_alone(group)
    check_python()


def install_alone(group: str) -> None:
    """Install what is missing, while no other process does."""
    lock = ROOT / ".dvc/tmp/env.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(lock, timeout=3600, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")  # on every system, this lock ends with its process
        if INSTALLING.exists() and INSTALLING.read_text() == state():
            INSTALLING.unlink()  # killed while it downloaded, or without network
        if not is_installed(group):
            print(f"Installing the packages of '{group}' into .venv, in a minute or so", flush=True)
            install(group)


def check_user() -> None:
    """Say what DVC and PyTorch would fail for: a user without a name, as in a container."""
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):
        home = "" if os.access(os.environ.get("HOME", ""), os.W_OK) else " HOME=/your/folder"
        sys.exit(
            "error: this user has no name in the system, and DVC needs a name; give it one:"
            f" export USER=me LOGNAME=me{home}"
        )


def check_folder() -> None:
    """Say what DVC would fail for: a path that its progress bars or PATH cannot hold."""
    if wrong := sorted({"{", "}", os.pathsep} & set(str(ROOT))):
        sys.exit(f"error: {ROOT}: found {' '.join(wrong)} in the path; rename or move the folder")


def check_repository() -> None:
    """Say what DVC would fail for: it needs a commit of the project, and a name for experiments."""
    command = ["git", "cat-file", "-e", "HEAD:./dvc.yaml"]
    try:
        commit = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE)
    except FileNotFoundError:
        sys.exit("error: git: no such program; DVC needs it")
    if b"safe.directory" in commit.stderr:  # the repository belongs to another user
        sys.exit(f"error: {commit.stderr.decode(errors='replace').removeprefix('fatal: ').strip()}")
    if commit.returncode:
        init = "" if succeeds("git", "rev-parse") else "  git init\n"
        sys.exit(
            "error: DVC needs the project as a commit of a Git repository. To make it one:\n"
            f"{init}  git add . && git commit -m 'Start'"
        )
    if not succeeds("git", "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT"):
        print(
            "warning: experiments are commits, and Git has no name for yours:"
            " git config --global user.name NAME; git config --global user.email ADDRESS",
            flush=True,
        )


def check_venv(group: str) -> None:
    """Leave a .venv alone that this file has not made: it is somebody's own, or that of a clone."""
    is_link = VENV.resolve() != VENV
    if is_link or (not PLACE.exists() and VENV.exists() and not is_empty(VENV)):
        found = f"a link to {VENV.resolve()}" if is_link else "one that make did not make"
        sys.exit(
            f"error: .venv: found {found}, in which uv or other packages of '{group}' are missing;"
            " nothing was changed. Move it away (mv .venv mine), and the next call makes another"
        )


def check_python() -> None:
    """Say that .venv keeps its Python, if make was given another version."""
    config, wanted = VENV / "pyvenv.cfg", "{}.{}".format(*sys.version_info)
    text = config.read_text("utf-8") if config.exists() else ""  # conda writes none
    found = re.search(r"^version\w* *= *(\d+\.\d+)", text, re.M)
    if "PYTHON" in os.environ and found and found[1] != wanted:
        print(
            f"warning: PYTHON: found Python {wanted}, but .venv has Python {found[1]} and keeps it;"
            " to have it made anew: rm -r .venv",
            flush=True,
        )


def is_empty(path: Path) -> bool:
    """Whether a path is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def is_installed(group: str) -> bool:
    """Whether .venv has what a group needs, in the pinned versions."""
    if INSTALLING.exists() or is_moved():
        return False
    wanted = [*packages(group), *(torch_pins() if on_cpu() else [])]
    return succeeds(*UV_INSTALL, "--check", "--offline", *wanted)


def is_moved() -> bool:
    """Whether the project's folder was renamed since .venv was made, or a kill left half of it."""
    if not PLACE.exists():
        return False
    place = Path(os.fsdecode(PLACE.read_bytes()))
    return not (place.exists() and place.samefile(VENV))


def install(group: str) -> None:
    """Create or update .venv."""
    cpu = on_cpu()
    if INSTALLING.exists() or is_moved() or not succeeds(UV, "pip", "list", "--python", VENV):
        make_venv()
    pinned = VENV / "uv.txt"
    pinned.write_text("".join(re.findall(r"^uv==.*\n(?: .*\n)*", read("tools.lock"), re.M)))
    pip = (PYTHON, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    call(*pip, "--no-user", "--require-hashes", "--requirement", pinned)

    uv = UV_INSTALL if sys.stderr.isatty() else [*UV_INSTALL, "--quiet"]
    if cpu and not succeeds(*UV_INSTALL, "--check", "--offline", *torch_pins()):
        index = os.environ.get("TORCH_INDEX")
        source = ["--default-index", index] if index else ["--torch-backend", "cpu"]
        INSTALLING.write_text(state())
        # Reinstall: torchvision's build with CUDA has the same version, but doesn't fit.
        call(*uv, "--reinstall", "--no-deps", *source, *torch_pins())
    INSTALLING.write_text(state())
    call(*uv, *([] if cpu else ["--require-hashes"]), *packages(group))
    INSTALLING.unlink()


def make_venv() -> None:
    """Make .venv, in place of one that is of no use. Until that is finished, it has no place."""
    VENV.mkdir(exist_ok=True)
    PLACE.write_text("")  # a kill leaves a mark: what is there is nobody else's
    for path in VENV.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != PLACE:
            path.unlink()
    python: str = sys._base_executable  # type: ignore[attr-defined]  # the other may be in .venv
    call(python, "-I", "-m", "venv", VENV)
    PLACE.write_bytes(os.fsencode(VENV))


def packages(group: str) -> list[str]:
    """What a group needs: arguments of `uv pip install`, which takes hashes from constraints."""
    extra = f"extras/{group}/pyproject.toml"
    if group == "dev":
        declared = sorted(ROOT.glob("extras/*/pyproject.toml"))
        extras = [
            f"{path.relative_to(ROOT).as_posix()}:{name}" for path in declared for name in GROUPS
        ]
    else:
        extras = [f"{extra}:run"] if (ROOT / extra).exists() else []
    names = ["repro" if extras and group != "dev" else group, *extras]
    groups = [word for name in names for word in ("--group", name)]
    wanted = ["--requirements", "pyproject.toml", *groups]
    return [*wanted, "--constraints", "requirements.lock", "--constraints", "tools.lock"]


def on_cpu() -> bool:
    """Whether .venv is to have PyTorch without CUDA."""
    builds = VENV.glob("lib/python*/site-packages/torch-*+cpu.dist-info")
    return sys.platform == "linux" and (TORCH == "cpu" or any(builds))


def torch_pins() -> list[str]:
    """The pinned versions of torch and torchvision, as builds for the CPU.

    torchvision's version gets no "+cpu": on ARM, the index has it without.
    """
    pins = re.findall(r"^(torch|torchvision)==(\S+)(.*) \\$", read("requirements.lock"), re.M)
    local = {"torch": "+cpu", "torchvision": ""}
    return [f"{name}=={version}{local[name]}{marker}" for name, version, marker in pins]


def state() -> str:
    """A text that differs when a package was installed or removed."""
    folders = [*VENV.glob("lib/python*/site-packages"), *VENV.glob("Lib/site-packages")]
    return " ".join(str(folder.stat().st_mtime_ns) for folder in folders)


def read(name: str) -> str:
    """The text of a file of the project."""
    return (ROOT / name).read_text("utf-8")


def succeeds(*command: str | Path) -> bool:
    """Run a command without its output; False too if there is no such program."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    except OSError:
        return False


def call(*command: str | Path) -> None:
    """Run a command; if it fails, end with its exit status."""
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
