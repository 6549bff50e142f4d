"""What make installs: real pip and uv, with an index on 127.0.0.1 that has tiny packages."""

import os
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .project import BIN, ROOT, Project

PYPROJECT = """
[project]
name = "tiny"
version = "0"
requires-python = ">=3.10"
dependencies = ["torch>=2", "torchvision"]

[dependency-groups]
repro = ["dvc"]
report = [{ include-group = "repro" }, "jinja2>=3"]
dev = [{ include-group = "report" }]
"""

HELLO = """
[dependency-groups]
run = ["greeting>=1"]
test = ["politeness"]
"""

# In place of uv: the real one. With KILL_AT, it deletes that file and kills make's env.py, as if a
# kill had come before the file was written.
UV = f"""#!/bin/sh
"{BIN}/uv" "$@" || exit
if [ -e "$KILL_AT" ]; then rm "$KILL_AT"; kill -9 $PPID; fi
"""


class Index:
    """A folder of wheels, served as a package index; folders in it are further indexes."""

    def __init__(self, folder: Path, url: str, requested: list[str]) -> None:
        self.folder, self.url, self.requested = folder, url, requested

    def only_for(self, project: Project) -> Project:
        """Let the project's pip and uv see nothing but the index "all"."""
        project.env |= {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": "",
            "PIP_INDEX_URL": f"{self.url}/all",
            "UV_CACHE_DIR": str(self.folder.parent / "uv cache"),
            "UV_DEFAULT_INDEX": f"{self.url}/all",
            "UV_NO_CONFIG": "1",
        }
        return project

    def add(
        self, name: str, version: str, *requires: str, index: str = "all", script: str | None = None
    ) -> str:
        """Build a wheel with a package of that name, or a script; return its line of a lock."""
        base = f"{name.replace('-', '_')}-{version}"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
        metadata += [f"Requires-Dist: {requirement}\n" for requirement in requires]
        files = {
            f"{base}.dist-info/METADATA": "".join(metadata),
            f"{base}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
        }
        if script:
            files[f"{base}.data/scripts/{name}"] = script
        else:
            files |= {f"{name}/__init__.py": "", f"{name}/__main__.py": ""}
        record = f"{base}.dist-info/RECORD"
        files[record] = "".join(f"{file},,\n" for file in [*files, record])
        wheel = self.folder / index / name / f"{base}-py3-none-any.whl"
        wheel.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel, "w") as archive:
            for file, content in files.items():
                entry = zipfile.ZipInfo(file)
                entry.external_attr = 0o100755 << 16  # an executable file
                archive.writestr(entry, content)
        return f"{name}=={version} \\\n    --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("index")
    requested: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            requested.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield Index(folder, f"http://127.0.0.1:{server.server_port}", requested)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def tiny(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with our Makefile and tiny packages, nothing installed. Not to be changed."""
    cuda = [f"{name} ; sys_platform == 'linux'" for name in ("nvidia-cudnn", "triton")]
    stages = [
        index.add("filelock", "4.0"),
        index.add("nvidia-cudnn", "9.0"),
        index.add("torch", "2.15.0", "filelock", *cuda),
        index.add("torchvision", "0.29.2", "torch"),
        index.add("triton", "3.9"),
    ]
    tools = [
        index.add("dvc", "3.0"),
        index.add("greeting", "1.2"),
        index.add("jinja2", "3.1"),
        index.add("politeness", "2.0"),
        index.add("uv", "0.13.9", script=UV),
    ]
    index.add("torch", "2.15.0+cpu", "filelock", index="cpu")
    index.add("torchvision", "0.29.2+cpu", "torch", index="cpu")

    project = Project(tmp_path_factory.mktemp("tiny") / "a tiny project")
    files = {
        "Makefile": (ROOT / "Makefile").read_text(),
        "tools/env.py": (ROOT / "tools/env.py").read_text(),
        "tools/mend.py": "",
        "tools/report.py": "import jinja2, sys, torch\nprint(sys.flags, sys.warnoptions)\n",
        "extras/hello/targets.mk": "hello: env-hello  ## say hello\n\t@echo hello\n",
        "extras/hello/pyproject.toml": HELLO,
        "dvc.yaml": "",
        "pyproject.toml": PYPROJECT,
        "requirements.lock": "".join(stages),
        "tools.lock": "".join(tools),
    }
    for name, content in files.items():
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).write_text(content)
    project.run("git", "init", "--quiet")
    project.commit("tiny")
    return project


@pytest.fixture
def bare(tiny: Project, index: Index, tmp_path: Path) -> Project:
    """A tiny project of one's own, with nothing installed."""
    return index.only_for(tiny.copy(tmp_path / "a bare project"))


@pytest.fixture(scope="module")
def after_repro(tiny: Project, index: Index, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `make repro`. Not to be changed by a test."""
    project = index.only_for(tiny.copy(tmp_path_factory.mktemp("tiny") / "after repro"))
    project.run("make", "repro")
    return project


@pytest.fixture
def ready(after_repro: Project, index: Index, tmp_path: Path) -> Project:
    """A tiny project of one's own, after `make repro`."""
    project = index.only_for(after_repro.copy(tmp_path / "a ready project"))
    (project.folder / ".venv/.place").write_text(str(project.folder / ".venv"))
    return project


STAGES = {"filelock": "4.0", "torch": "2.15.0", "torchvision": "0.29.2"}
CUDA = {"nvidia_cudnn": "9.0", "triton": "3.9"} if sys.platform == "linux" else {}
REPRO = STAGES | CUDA | {"dvc": "3.0"}


def site_packages(project: Project) -> Path:
    (folder,) = (project.folder / ".venv/lib").glob("python*/site-packages")
    return folder


def installed(project: Project) -> dict[str, str]:
    """Version of each installed package, other than pip's own."""
    names = [path.stem for path in site_packages(project).glob("*.dist-info")]
    packages = dict(name.split("-") for name in names)
    return {name: packages[name] for name in packages if name not in ("pip", "setuptools", "uv")}


def pin(project: Project, lock: str, entry: str) -> None:
    """Replace the entry of a package in a lock."""
    path, name = project.folder / lock, entry.partition("==")[0]
    path.write_text(re.sub(rf"^{name}==.*\n .*\n", lambda _: entry, path.read_text(), flags=re.M))


def test_a_target_installs_what_it_needs_and_no_more(ready: Project) -> None:
    assert installed(ready) == REPRO
    assert ready.run("make", "report").count("Installing the packages of 'report'") == 1
    assert installed(ready) == REPRO | {"jinja2": "3.1"}


def test_an_extra_installs_what_it_lists_while_it_is_there(ready: Project) -> None:
    assert "hello" in ready.run("make", "hello")
    assert installed(ready) == REPRO | {"greeting": "1.2"}
    ready.run("make", "env")
    everything = REPRO | {"greeting": "1.2", "jinja2": "3.1", "politeness": "2.0"}
    assert installed(ready) == everything


def test_without_an_extra_its_packages_are_not_installed(ready: Project) -> None:
    ready.run("git", "rm", "-r", "--quiet", "extras/hello")
    ready.run("make", "env")
    assert installed(ready) == REPRO | {"jinja2": "3.1"}


def test_nothing_missing_needs_no_network(ready: Project, index: Index) -> None:
    before = list(index.requested)
    assert "Installing" not in ready.run("make", "repro", UV_CACHE_DIR=str(ready.folder / "empty"))
    assert index.requested == before


def test_a_renewed_lock_updates_the_environment(ready: Project, index: Index) -> None:
    mine = site_packages(ready) / "mine.py"
    mine.touch()
    pin(ready, "requirements.lock", index.add("filelock", "4.1"))
    assert ready.run("make", "repro").count("Installing") == 1
    assert installed(ready) == REPRO | {"filelock": "4.1"}
    assert mine.exists()


@pytest.mark.parametrize("torch", ["", "cpu"])
@pytest.mark.parametrize("name", ["filelock", "jinja2"])
def test_a_file_without_the_locked_hash_is_refused(
    ready: Project, index: Index, name: str, torch: str
) -> None:
    lock = {"filelock": "requirements.lock", "jinja2": "tools.lock"}[name]
    before = (ready.folder / lock).read_text()
    entry = index.add(name, "5.0")
    pin(ready, lock, f"{entry[:-5]}0000\n")
    cpu = {"TORCH": torch, "TORCH_INDEX": f"{index.url}/cpu"}
    assert "Hash mismatch" in ready.run("make", "report", status=2, **cpu)
    assert installed(ready).get(name) != "5.0"
    (ready.folder / lock).write_text(before)
    assert "Installing" not in ready.run("make", "repro"), "what was there is as good as before"


def test_after_a_kill_a_half_installed_package_is_not_taken_for_whole(ready: Project) -> None:
    module = site_packages(ready) / "jinja2/__init__.py"
    ready.run("make", "report", status=2, KILL_AT=str(module))
    assert installed(ready) == REPRO | {"jinja2": "3.1"}
    assert not module.exists()
    ready.run("make", "report")
    assert module.exists()


def test_an_environment_whose_python_has_gone_is_made_anew(ready: Project) -> None:
    for python in (ready.folder / ".venv/bin").glob("python*"):
        python.unlink()
        python.symlink_to(ready.folder / "removed")
    ready.run("make", "repro")
    assert installed(ready) == REPRO


@pytest.mark.parametrize("found", ["a link to ", "one that make did not make"])
def test_somebody_elses_environment_is_left_alone(
    bare: Project, tmp_path: Path, found: str
) -> None:
    mine, venv = tmp_path / "mine", bare.folder / ".venv"
    mine.mkdir()
    if found == "a link to ":
        (mine / ".place").write_text(str(mine))  # made by make, in another clone
        venv.symlink_to(mine)
    else:
        mine.rename(venv)
    (venv / "notes").write_text("mine")
    before = sorted(venv.iterdir())
    output = bare.run("make", "repro", status=2)
    assert output.startswith(f"error: .venv: found {found}")
    assert "(mv .venv mine)" in output
    assert sorted(venv.iterdir()) == before


def test_a_folder_that_was_renamed(ready: Project, index: Index) -> None:
    project = index.only_for(Project(ready.folder.rename(ready.folder.parent / "renamed")))
    assert project.run("make", "report").count("Installing") == 1
    assert installed(project) == REPRO | {"jinja2": "3.1"}
    python = project.run("sh", "-c", ". .venv/bin/activate && command -v python").strip()
    assert Path(python) == project.folder / ".venv/bin/python"
    assert "Installing" not in project.run("make", "repro")


def test_without_a_commit_or_a_name_the_commands_for_one_come_first(bare: Project) -> None:
    nobody = f"PYTHON={python(bare, 'import pwd; pwd.getpwuid = {}.__getitem__')}"
    names = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "")
    shutil.rmtree(bare.folder / ".git")  # as in the archive that a hosting site offers
    error, init, commit, *_ = bare.run("make", "repro", status=2).splitlines()
    assert error.startswith("error: DVC needs the project as a commit of a Git repository")
    assert init == "  git init"
    bare.run("sh", "-c", init)
    assert bare.run("make", "repro", status=2).splitlines()[:2] == [error, commit]
    bare.run("sh", "-c", commit)
    output = bare.run("make", "repro", nobody, status=2, HOME="/nowhere", **names)
    assert "DVC needs a name" in output
    assert "export USER=me LOGNAME=me HOME=/your/folder" in output
    assert not (bare.folder / ".venv").exists()
    names["LOGNAME"] = "me"
    assert "Installing" in bare.run("make", "repro", nobody, status=0, **names)


def test_git_is_told_of_an_owner_and_a_name(ready: Project) -> None:
    output = ready.run("make", "repro", status=2, GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    assert f"\tgit config --global --add safe.directory '{ready.folder}'" in output
    Path(ready.env["GIT_CONFIG_GLOBAL"]).unlink()
    assert "git config --global user.name NAME" in ready.run("make", "repro")
    ready.env |= {"GIT_COMMITTER_NAME": "Reader", "GIT_COMMITTER_EMAIL": "reader@example.org"}
    assert "warning" not in ready.run("make", "repro")


def test_a_half_made_environment_and_settings_that_send_packages_elsewhere(bare: Project) -> None:
    (bare.folder / ".venv/bin").mkdir(parents=True)  # what a kill leaves
    for name in (".place", "bin/python", "half"):
        (bare.folder / ".venv" / name).touch()
    settings = {
        "PIP_CONSTRAINT": "/nowhere",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_TARGET": str(bare.folder / "elsewhere"),
        "PIP_USER": "1",
        "PYTHONINSPECT": "1",
        "PYTHONOPTIMIZE": "2",
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "error",
        "UV_CONSTRAINT": "/nowhere",
        "UV_PYTHON": "3.99",
        "UV_SYSTEM_PYTHON": "1",
        "UV_TORCH_BACKEND": "cpu",
        "UV_WORKING_DIR": "/",
    }
    output = bare.run("make", "report", status=0, **settings)
    assert installed(bare) == REPRO | {"jinja2": "3.1"}
    assert not (bare.folder / "elsewhere").exists()
    assert not (bare.folder / ".venv/half").exists()
    for flag in ("inspect=0", "optimize=0", "[]"):
        assert flag in output
    assert "safe_path=True" not in output  # new in Python 3.11
    assert "Installing" not in bare.run("make", "repro")


def test_two_at_once(bare: Project) -> None:
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda target: bare.run("make", target), ["repro", "report"]))
    assert sum(output.count("Installing") for output in outputs) in (1, 2)
    assert installed(bare) == REPRO | {"jinja2": "3.1"}
    assert "Installing" not in bare.run("make", "report")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch's one build has no CUDA")
def test_torch_without_cuda(bare: Project, index: Index) -> None:
    cpu = {"torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu"}
    source = f"TORCH_INDEX={index.url}/cpu"
    before = len(index.requested)
    assert bare.run("make", "repro", "TORCH=cpu", source).count("Installing") == 1
    assert installed(bare) == STAGES | cpu | {"dvc": "3.0"}
    asked = "\n".join(index.requested[before:])
    assert "/cpu/torch/torch-2.15.0" in asked
    assert "/all/filelock/" in asked
    assert not re.search("nvidia|triton|/all/torch.*whl", asked)

    # The choice lasts, also when the version changes.
    for again in ([], ["TORCH=cpu"]):
        assert "Installing" not in bare.run("make", "repro", *again)
    pin(bare, "requirements.lock", index.add("torch", "2.16.0", "nvidia-cudnn"))
    index.add("torch", "2.16.0+cpu", "filelock", index="cpu")
    bare.run("make", "report", source)
    assert installed(bare) == STAGES | cpu | {"torch": "2.16.0+cpu", "dvc": "3.0", "jinja2": "3.1"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch's one build has no CUDA")
def test_from_a_torch_with_cuda_to_one_without(ready: Project, index: Index) -> None:
    ready.run("make", "repro", "TORCH=cpu", f"TORCH_INDEX={index.url}/cpu")
    changed = {"torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu"}
    assert installed(ready) == REPRO | changed


def test_another_torch_is_refused(bare: Project) -> None:
    output = bare.run("make", "repro", "TORCH=gpu", status=2)
    assert "error: TORCH: found gpu, expected cpu" in output


def test_an_old_python_is_refused(bare: Project) -> None:
    output = bare.run("make", "repro", f"PYTHON={python(bare, version(9))}", status=2)
    assert "is Python 3.9.18, expected Python 3.10 or newer" in output


def test_another_python_than_that_of_the_environment_is_told(ready: Project) -> None:
    output = ready.run("make", "report", f"PYTHON={python(ready, version(99))}")
    mine = ".".join(map(str, sys.version_info[:2]))
    warning = f"warning: PYTHON: found Python 3.99, but .venv has Python {mine} and keeps it;"
    assert output.count(warning) == 1
    assert "warning" not in ready.run("make", "repro", f"PYTHON={sys.executable}")


@pytest.mark.parametrize("name", ["a{b}", f"a{os.pathsep}b"])
def test_a_folder_that_dvc_or_a_path_cannot_hold_is_refused(bare: Project, name: str) -> None:
    folder = bare.folder.rename(bare.folder.with_name(name))
    output = bare.run(sys.executable, "tools/env.py", status=1, cwd=str(folder))
    assert output.startswith(f"error: {folder}: found ")


def version(minor: int) -> str:
    return f'sys.version_info, sys.version = (3, {minor}, 18), "3.{minor}.18 (main)"'


def python(project: Project, change: str) -> str:
    """A program like this Python, with a change of what a script finds in it."""
    program = project.folder / "another python"
    code = f"""
import runpy, sys
{change}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$@\"\n")
    program.chmod(0o755)
    return "'./another python'"
