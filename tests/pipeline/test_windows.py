"""The scripts need nothing that Windows lacks: they run in an interpreter without it."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from mnist_pipeline.splits.batches import load_split

from .project import Project

pytestmark = pytest.mark.usefixtures("real_processes")

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run_as_windows(project: Project, *scripts: str) -> str:
    driver = str(Path(__file__).with_name("windows.py"))
    return project.run("python", "-X", "warn_default_encoding", driver, *scripts)


@linux
def test_every_stage_writes_the_same_bytes_and_a_picture_is_classified(project: Project) -> None:
    before = project.outs()
    image, label = load_split(project.folder / "data/processed", "test")[0]
    Image.fromarray(255 - image[0].numpy()).save(project.folder / "手.png")
    for folder in ("data/raw", "data/processed", "metrics"):
        shutil.rmtree(project.folder / folder)
    stages = [f"stages/{name}.py" for name in ("download", "preprocess", "train", "evaluate")]
    output = run_as_windows(project, *stages, "tools/predict.py --show 手.png")
    assert project.outs() == before
    assert rf"\u624b.png: {label} (" in output, "escaped, as cp1252 does not have it"
    assert r"\u2588" in output


@linux
def test_a_killed_run_is_resumed(project: Project) -> None:
    project.set_params(epochs=20, batch_size=16, keep="best")
    checkpoint = project.folder / "models/checkpoint.safetensors"
    run = subprocess.Popen(["python", "stages/train.py"], cwd=project.folder, env=project.env)
    while not checkpoint.exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    output = run_as_windows(project, "stages/train.py")
    assert "Resuming after epoch" in output
    assert not checkpoint.exists()


def test_a_checkout_with_windows_settings_has_the_same_bytes(
    fresh_clone: Project, tmp_path: Path
) -> None:
    settings = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    checkout = tmp_path / "checkout"
    fresh_clone.run("git", "clone", "--quiet", *settings, ".", str(checkout))
    names = fresh_clone.run("git", "ls-files", "-z").split("\0")
    for name in filter(None, names):
        assert (checkout / name).read_bytes() == (fresh_clone.folder / name).read_bytes(), name
