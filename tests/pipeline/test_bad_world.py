"""Full disks, read-only trees, wrong files, divergence: an error, or the right result."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mnist_pipeline.common.tensors import load_tensors, save_tensors

from .project import ALL, Project, ran

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
        ("download", "data", "1m"),
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
    for path in full.rglob("*"):
        assert not path.name.endswith(".partial")
        name = path.relative_to(project.folder).as_posix()
        assert path.is_dir() or path.read_bytes() == before[name], "a file is whole or absent"


def test_after_a_full_disk_the_same_bytes(project: Project, mount: Mount) -> None:
    before = project.outs()
    mount(project.folder / "models", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    assert "No space left" in project.dvc("repro", "--force", "-s", "train", status=None)
    subprocess.run(["umount", str(project.folder / "models")], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(project.folder / "models")], check=True)
    project.dvc("repro")
    assert project.outs() == before


def test_a_read_only_tree(project: Project, mount: Mount) -> None:
    before = project.outs()
    mount(project.folder, "--bind", str(project.folder))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(project.folder)], check=True)
    output = project.stages(*ALL)
    assert output.count("Read-only file system") == output.count("exit code 1") == len(ALL)
    assert "Traceback" not in output
    assert project.outs() == before


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


def test_a_split_with_other_classes(project: Project) -> None:
    path = project.folder / "data/processed/dataset.json"
    path.write_text(path.read_text().replace('"9"', '"z"'))
    output = project.run("python", "stages/evaluate.py", status=1)
    assert "data/processed: classes: found ['0', '1'" in output
    assert "Traceback" not in output


def test_a_folder_where_a_file_should_be(project: Project) -> None:
    labels = project.folder / "data/raw/digits/train-labels.idx"
    labels.unlink()
    labels.mkdir()
    output = project.run("python", "stages/preprocess.py", status=1)
    assert "train-labels.idx: found no file, expected SHA-256" in output


def test_a_damaged_raw_file_is_fetched_again_as_advised(project: Project) -> None:
    before = project.outs()
    images = project.folder / "data/raw/digits/train-images.idx"
    content = bytearray(images.read_bytes())
    content[5000] ^= 1
    images.write_bytes(content)
    output = project.run("python", "stages/preprocess.py", status=1)
    assert "train-images.idx: found SHA-256 " in output
    assert ran(project.dvc("repro", "--force", "--single-item", "download")) == ["download"]
    assert project.outs() == before
