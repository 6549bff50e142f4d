"""Full disks, read-only trees, wrong files, divergence: an error, or the right result."""

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
import torch
import yaml

from mnist_pipeline.model.tensors import load_tensors, save_tensors

from .project import ALL, ROOT, Project, ran
from .test_folder import write_pictures

Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount file systems for a test, where this user may."""
    mounted: list[Path] = []

    def mount_at(folder: Path, *options: str) -> None:
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"this user may not mount file systems: {done.stderr.strip()}")
        mounted.append(folder)

    yield mount_at
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("stage", "folder", "size"),
    [
        ("download", "data", "1m,nr_inodes=2"),  # the digits have no raw files to fill it
        ("preprocess", "data/processed", "400k"),
        ("train", "models", "1m"),
        ("evaluate", "metrics", "8k"),
    ],
)
def test_a_full_disk(project: Project, mount: Mount, stage: str, folder: str, size: str) -> None:
    full = project.folder / folder
    before = project.outs()
    mount(full, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    output = project.run("python", f"stages/{stage}.py", status=1)
    assert re.search(f"^error: {re.escape(str(full))}/.*: No space left on device", output, re.M)
    assert "Traceback" not in output
    assert not [*full.rglob(".*.partial")]
    for path in full.rglob("[!.]*"):
        name = path.relative_to(project.folder).as_posix()
        assert path.is_dir() or path.read_bytes() == before[name], "a file is whole or absent"


def test_a_disk_too_full_for_the_pictures_of_a_folder(
    project: Project, mount: Mount, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "shapes", ["low", "high"], 20)
    project.set_params(dataset="folder", folder=str(tmp_path / "shapes"), picture="photo")
    full = project.folder / "data/processed"
    mount(full, "-t", "tmpfs", "-o", "size=64k", "tmpfs")
    output = project.run("python", "stages/preprocess.py", status=1)
    assert f"error: {full}: No space left on device\n" in output
    assert "Traceback" not in output
    assert list(full.iterdir()) == []


def test_after_a_full_disk_the_same_bytes(project: Project, mount: Mount) -> None:
    before = project.outs()
    mount(project.folder / "models", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    assert "No space left" in project.dvc("repro", "--force", "-s", "train", status=None)
    subprocess.run(["umount", str(project.folder / "models")], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(project.folder / "models")], check=True)
    project.dvc("repro")
    assert project.outs() == before


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize("missing", ["room in /dev/shm", "a short TMPDIR"])
def test_dataloader_workers_without(
    project: Project, mount: Mount, tmp_path: Path, missing: str
) -> None:
    """A socket's path has at most 107 characters; a container's /dev/shm has 64 MiB."""
    before = project.outs()
    project.set_params(num_workers=2)
    command = ["timeout", "100", "python", "stages/train.py"]
    if missing == "a short TMPDIR":
        project.env["TMPDIR"] = str(tmp_path / ("long" * 25))
        Path(project.env["TMPDIR"]).mkdir()
    else:
        mount(tmp_path, "--bind", str(tmp_path))  # skips where one may not
        script = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
    project.run(*command)
    assert project.outs() == before


def test_a_read_only_tree(project: Project, mount: Mount) -> None:
    before = project.outs()
    mount(project.folder, "--bind", str(project.folder))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(project.folder)], check=True)
    output = project.stages(*ALL)
    assert output.count("Read-only file system") == output.count("exit code 1") == len(ALL)
    assert "Traceback" not in output
    assert project.outs() == before


def test_a_folder_that_is_a_link_is_refused_before_anything_is_written(
    project: Project, tmp_path: Path
) -> None:
    before = project.outs()
    for script, name in {
        "stages/download": "data", "stages/preprocess": "data/raw", "tools/mend": "data/processed",
        "stages/train": "models", "stages/evaluate": "metrics/pictures",
    }.items():  # fmt: skip
        folder, elsewhere = project.folder / name, tmp_path / "scratch"
        folder.rename(elsewhere)
        folder.symlink_to(elsewhere)
        output = project.run("python", f"{script}.py", status=1)
        assert output.startswith(f"error: {name}: found a link to {elsewhere}, expected a folder")
        assert output.count("\n") == 1
        folder.unlink()
        elsewhere.rename(folder)
    assert project.outs() == before

    advice = output.partition("on another disk: ")[2].replace("FOLDER", str(tmp_path / "disk"))
    (project.folder / ".dvc/cache").rename(tmp_path / "disk")
    project.run("sh", "-ec", advice)
    project.dvc("checkout", "--relink")
    project.set_params(seed=1)
    assert ran(project.dvc("repro", "train")) == ["train"]
    assert tmp_path / "disk" in (project.folder / "models/model.safetensors").readlink().parents
    assert "up to date" in project.dvc("status", "train")


def test_all_folders_that_stages_write_to_are_known(fresh_clone: Project) -> None:
    folders: set[PurePosixPath] = set()
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for out in (out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, ())):
            path = PurePosixPath(*out if isinstance(out, dict) else [out])
            folders |= {path, *path.parents} if not path.suffix else {*path.parents}
    code = "import _stage; print(*_stage.FOLDERS)"
    listed = fresh_clone.run("python", "-c", code, PYTHONPATH="stages").split()
    assert folders - {PurePosixPath()} == set(map(PurePosixPath, listed))


def test_a_diverging_run_writes_no_model(project: Project) -> None:
    output = project.dvc(
        "exp", "run", "-S", "optimizer=sgd", "-S", "optimizers.sgd.lr=1e38", status=None
    )
    assert "training has diverged: loss nan in epoch 1, step 2" in output
    assert "at a learning rate of 1e+38" in output
    assert "try a lower lr" in output
    assert "Traceback" not in output
    assert not (project.folder / "models/model.safetensors").exists()
    assert not (project.folder / "metrics/train.json").exists()


def test_a_model_whose_training_diverged_is_not_evaluated(project: Project) -> None:
    path = project.folder / "models/model.safetensors"
    tensors, metadata = load_tensors(path)
    path.unlink()  # DVC's cache may link to it
    save_tensors(path, {name: tensor * torch.nan for name, tensor in tensors.items()}, metadata)
    before = project.outs()
    output = project.run("python", "stages/evaluate.py", status=1)
    assert output.startswith("error: model: found probabilities that are not finite for 599 of 599")
    assert output.count("\n") == 1
    assert project.outs() == before


@pytest.mark.parametrize(
    ("path", "stage"),
    [("models/model.safetensors", "evaluate"), ("data/processed/train/images.npy", "train")],
)
def test_an_empty_file_in_the_cache_is_written_again_as_advised(
    project: Project, path: str, stage: str
) -> None:
    before = project.outs()
    digest = hashlib.md5(before[path]).hexdigest()
    cached = project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.chmod(0o644)
    cached.write_bytes(b"")
    cached.chmod(0o444)
    (project.folder / path).unlink()
    project.dvc("checkout")  # DVC trusts what is read-only
    output = project.run("python", f"stages/{stage}.py", status=1)
    assert output.startswith(f"error: {project.folder / path}: not a")
    assert output.count("\n") == 1
    project.run("sh", "-c", output.partition("in its cache: ")[2])
    project.dvc("repro")
    assert project.outs() == before


def test_a_split_with_other_classes(project: Project) -> None:
    path = project.folder / "data/processed/dataset.json"
    path.write_text(path.read_text().replace('"9"', '"z"'))
    output = project.run("python", "stages/evaluate.py", status=1)
    assert "data/processed: classes: found ['0', '1'" in output
    assert "Traceback" not in output


def test_a_damaged_raw_file_is_fetched_again_as_advised(
    clone: Project, mnist_mirror: str, tmp_path: Path
) -> None:
    clone.env["MNIST_MIRROR"] = str((ROOT / mnist_mirror).resolve())
    clone.env["MNIST_CACHE"] = str(tmp_path / "cache")
    clone.dvc("repro", "preprocess")
    before = clone.outs()
    images = clone.folder / "data/raw/MNIST/raw/train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[5000] ^= 1
    images.write_bytes(content)
    output = clone.run("python", "stages/preprocess.py", status=1)
    assert "train-images-idx3-ubyte: found SHA-256 " in output
    del clone.env["MNIST_MIRROR"]  # its file is in the user's cache
    assert ran(clone.dvc("repro", "--force", "--single-item", "download")) == ["download"]
    assert clone.outs() == before


def test_what_was_verified_before_needs_no_network(
    clone: Project, mnist_mirror: str, tmp_path: Path
) -> None:
    clone.env["MNIST_CACHE"] = str(tmp_path / "cache")
    clone.dvc("repro", "download", MNIST_MIRROR=str((ROOT / mnist_mirror).resolve()))
    before = clone.outs()
    source = clone.folder / "src/mnist_pipeline/raw/sources.py"
    source.write_text(source.read_text() + "\n# edited\n")
    assert ran(clone.dvc("repro", "download")) == ["download"], "an edit of the code"
    clone.dvc("exp", "run", "-S", "dataset=digits", "download")
    clone.run("git", "checkout", "--quiet", "params.yaml")
    assert ran(clone.dvc("repro", "download", "--force")) == ["download"], "back from another"
    assert clone.outs() == before
    clone.commit("edited")
    clone.dvc("exp", "run", "--temp", "--force", "download")
    second = Project(tmp_path / "second")
    clone.run("git", "clone", "--quiet", str(clone.folder), str(second.folder))
    second.env["MNIST_CACHE"] = clone.env["MNIST_CACHE"]
    second.dvc("repro", "download")
    assert second.outs() == before
