"""docs/make-it-yours.md, followed to the end as written."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from .project import ROOT, Project

PAGE = (ROOT / "docs/make-it-yours.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

# In place of `make check` and `make test`: what knows of the package, its settings and its models.
# Without a network `make lock` cannot run, so the locks keep what was dropped.
TESTS = """
make -n check test
ruff check
ruff format --check
python -m pytest -q tests/test_*.py tests/common/test_settings.py tests/model/test_networks.py
"""


def test_it_can_be_followed(clone: Project, tmp_path: Path) -> None:
    clone.install()
    generator = np.random.default_rng(0)
    for name, color in {"daisy": (240, 240, 250), "tulip": (200, 30, 120)}.items():
        (clone.folder / "data/photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(generator.normal(color, 40, (48, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(clone.folder / f"data/photos/{name}/{number}.jpg")

    for language, text in BLOCKS:
        if language == "diff":
            (tmp_path / "change.diff").write_text(text)
            clone.run("git", "apply", str(tmp_path / "change.diff"))
        else:
            script = text.replace("/tmp/flowers-cache", str(tmp_path / "cache"))
            script = re.sub("make check .*\nmake test .*\n", TESTS, script)
            script = re.sub("make lock .*", "make -n lock", script)
            clone.run("bash", "-euc", script, PYTEST_ADDOPTS="--numprocesses=0")

    assert clone.run("git", "grep", "-liE", "mnist[-_]pipeline") == "LICENSE\n"
    assert "up to date" in clone.dvc("status")
    assert clone.read("params.yaml")["model"] == "linear"
    colleague = Project(tmp_path / "colleague")
    clone.run("git", "clone", "--quiet", str(clone.folder), str(colleague.folder))
    colleague.dvc("pull", "--quiet")
    assert "up to date" in colleague.dvc("status")
    assert colleague.outs() == clone.outs()
