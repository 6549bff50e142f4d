"""Split the raw files and cache them as tensors: data/raw → data/processed/*.safetensors."""

import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

from mnist_pipeline.errors import run_stage
from mnist_pipeline.params import PreprocessParams, read_params
from mnist_pipeline.splits import read_raw, write_splits


def main() -> None:
    """Read params.yaml and data/raw, write data/processed."""
    params = read_params(ROOT / "params.yaml", PreprocessParams)
    raw = read_raw(ROOT / "data/raw")
    counts = write_splits(raw, params.validation_fraction, ROOT / "data/processed")
    splits = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{raw.name}: {splits} images of {len(raw.classes)} classes, in data/processed")


if __name__ == "__main__":
    run_stage(main)
