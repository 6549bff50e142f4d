"""Download the files of every dataset from each of its sources, and compare their MD5.

A dead source shows only here: for what one lacks, the download stage asks the next.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import _tool  # noqa: F401

from mnist_pipeline.raw.fetch import SourceError, fetch
from mnist_pipeline.raw.sources import TORCHVISION, remote_files


def main() -> None:
    """Print one line per source; exit with 1 if one fails that is not allowed to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--may-fail", nargs="+", default=[], metavar="SOURCE")
    may_fail = parser.parse_args().may_fail
    failed = False
    for dataset in TORCHVISION:
        sites, files = remote_files(dataset)
        for site in sites:
            problem = failure(site, files)
            print(f"{dataset}: {problem or f'complete from {site}'}", flush=True)
            failed |= bool(problem) and site not in may_fail
    sys.exit(failed)


def failure(site: str, files: Iterable[tuple[str, str]]) -> str:
    """Why a source does not provide all files, pairs of name and MD5; empty if it does."""
    for name, md5 in files:
        with TemporaryDirectory() as folder:
            try:
                fetch(site, name, md5, Path(folder) / name)
            except SourceError as error:
                return str(error)
    return ""


if __name__ == "__main__":
    main()
