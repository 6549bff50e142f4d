"""The stages and `predict.py` on whatever system this is: CI runs these on Windows, too."""

import json
import platform
import shutil
import subprocess
import time
from hashlib import md5
from pathlib import Path

import torch
from PIL import Image

from mnist_pipeline.splits.batches import load_split

from .project import Project

DIGESTS = Path(__file__).with_name("digits.json")
PORTABLE = platform.machine() in {"x86_64", "AMD64"} and torch.cpu.get_capabilities().get("avx2")


def test_the_run_of_the_digits_has_the_committed_bytes(digits_run: Project) -> None:
    """`DIGESTS` are MD5s; pictures are left out, as PNG depends on the build of zlib."""
    outs = digits_run.outs()
    found = {name: md5(outs[name]).hexdigest() for name in outs if not name.endswith(".png")}
    expected = json.loads(DIGESTS.read_text("utf-8"))
    assert found.keys() == expected.keys()
    for name, digest in expected.items():
        if PORTABLE or name.startswith("data/"):
            assert found[name] == digest, name


def test_a_picture_is_classified_and_its_answer_can_be_printed(project: Project) -> None:
    image, label = load_split(project.folder / "data/processed", "test")[0]
    Image.fromarray(255 - image[0].numpy()).save(project.folder / "手.png")
    command = ("python", "tools/predict.py", "--show", "手.png")
    output = project.run(*command, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert rf"\u624b.png: {label} (" in output, "escaped, as cp1252 does not have it"
    assert r"\u2588" in output


def test_a_killed_run_is_resumed(project: Project) -> None:
    project.set_params(epochs=10, batch_size=16, keep="best")
    checkpoint = project.folder / "models/checkpoint.safetensors"
    python = shutil.which("python", path=project.env["PATH"]) or "python"
    run = subprocess.Popen([python, "stages/train.py"], cwd=project.folder, env=project.env)
    while not checkpoint.exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    assert "Resuming after epoch" in project.run("python", "stages/train.py")
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
