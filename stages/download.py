"""Download the raw files of the chosen dataset: its sources → data/raw."""

import os

from _stage import ROOT

from mnist_pipeline.common.errors import run
from mnist_pipeline.common.params import DownloadParams, read_params
from mnist_pipeline.raw.sources import UnreachableError, download

UNREACHABLE = ROOT / ".dvc/tmp/sources-unreachable"  # tells `make repro` why the stage failed


def main() -> None:
    """Read params.yaml, write data/raw."""
    params = read_params(ROOT / "params.yaml", DownloadParams)
    mirror = os.environ.get("MNIST_MIRROR")
    mirrors = [*([mirror] if mirror else []), *params.mirrors]
    try:
        shape = (params.channels, params.image_size, params.image_size)
        folder = ROOT / params.folder
        download(params.dataset, mirrors, ROOT / "data/raw", folder, params.picture, shape)
    except UnreachableError:
        if UNREACHABLE.parent.is_dir():
            UNREACHABLE.touch()
        raise
    print(f"{params.dataset}: raw files verified, in data/raw")


if __name__ == "__main__":
    run(main)
