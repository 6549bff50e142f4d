"""Code dependencies of each stage: what a fresh interpreter loads, written to dvc.yaml."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DVC_YAML = ROOT / "dvc.yaml"

LOADED = """
import runpy, sys
from pathlib import Path
root = Path.cwd().resolve()
sys.path.insert(0, "stages")  # as `python stages/...` does
runpy.run_path(sys.argv[1], run_name="imported")
names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
files = {Path(name).resolve() for name in names if name}
mine = [root / "src", root / "stages"]
print(*sorted(f.relative_to(root).as_posix() for f in files if any(map(f.is_relative_to, mine))))
"""


def code_deps(stage: str) -> list[str]:
    """The stage's script and every module of this checkout that it imports."""
    script = f"stages/{stage}.py"
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED, script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [script, *(name for name in loaded.stdout.split() if name != script)]


def stages() -> list[str]:
    """The names of the stages in dvc.yaml."""
    return list(yaml.safe_load(DVC_YAML.read_text())["stages"])


def listed_deps(stage: str) -> list[str]:
    """The code that dvc.yaml lists below a stage."""
    deps = yaml.safe_load(DVC_YAML.read_text())["stages"][stage]["deps"]
    return [dep for dep in deps if dep.endswith(".py")]


def write() -> None:
    """Replace the lines of each stage's .py dependencies in dvc.yaml, and nothing else."""
    text = DVC_YAML.read_text()
    for stage in stages():
        lines = "".join(f"      - {dep}\n" for dep in code_deps(stage))
        pattern = rf"(\n  {stage}:\n(?:    .*\n)*?    deps:\n)(?:      - \S+\.py\n)*"
        text = re.sub(pattern, rf"\g<1>{lines}", text)
    DVC_YAML.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    for stage in stages():
        print(f"{stage}:", *code_deps(stage), sep="\n  ")
