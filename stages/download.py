"""Download the raw files of the chosen dataset: its sources → data/raw."""

import os

from _stage import ROOT

from mnist_pipeline.common.errors import run_script
from mnist_pipeline.common.settings import read_settings
from mnist_pipeline.raw.sources import TORCHVISION, DownloadSettings, UnreachableError, download

UNREACHABLE = ROOT / ".dvc/tmp/sources-unreachable"  # tells `make repro` why the stage failed


def main() -> None:
    """Read params.yaml, write data/raw."""
    settings = read_settings(ROOT / "params.yaml", DownloadSettings)
    mirror = os.environ.get("MNIST_MIRROR")
    mirrors = [*([mirror] if mirror else []), *settings.mirrors]
    try:
        download(settings.dataset, mirrors, ROOT / "data/raw")
    except UnreachableError:
        if UNREACHABLE.parent.is_dir():
            UNREACHABLE.touch()
        raise
    has_files = settings.dataset in TORCHVISION
    print(f"{settings.dataset}: {'raw files verified' if has_files else 'nothing to download'}")


if __name__ == "__main__":
    run_script(main)
