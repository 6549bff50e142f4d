"""Fetch the raw files of the chosen dataset: its sources → data/raw, a root for torchvision."""

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

from mnist_pipeline.errors import run_stage
from mnist_pipeline.fetching import UnreachableError
from mnist_pipeline.params import DownloadParams, read_params
from mnist_pipeline.sources import download

UNREACHABLE = ROOT / ".dvc/tmp/sources-unreachable"  # tells `make repro` why the stage failed


def main() -> None:
    """Read params.yaml, write data/raw."""
    params = read_params(ROOT / "params.yaml", DownloadParams)
    mirror = os.environ.get("MNIST_MIRROR")
    mirrors = [*([mirror] if mirror else []), *params.mirrors]
    try:
        download(params.dataset, mirrors, ROOT / "data/raw", ROOT / params.folder)
    except UnreachableError:
        if UNREACHABLE.parent.is_dir():
            UNREACHABLE.touch()
        raise
    print(f"{params.dataset}: raw files verified, in data/raw")


if __name__ == "__main__":
    run_stage(main)
