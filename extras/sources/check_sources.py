"""Download the files of every dataset from each of its sources, and compare their MD5.

A dead source shows only here: for what one lacks, the download stage asks the next.
"""

import argparse
import socket
import sys
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import _tool  # noqa: F401

from torchvision.datasets.utils import download_url

from mnist_pipeline.raw.sources import TIMEOUT, TORCHVISION, remote_files


def main() -> None:
    """Print one line per source; exit with 1 if one fails that is not allowed to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--may-fail", nargs="+", default=[], metavar="SOURCE")
    may_fail = parser.parse_args().may_fail
    socket.setdefaulttimeout(TIMEOUT)
    failed = False
    for dataset in TORCHVISION:
        sites, files = remote_files(dataset)
        for site in sites:
            reason = failure(site, files)
            print(f"{dataset} from {site}: {reason or 'complete'}", flush=True)
            failed |= bool(reason) and site not in may_fail
    sys.exit(failed)


def failure(site: str, files: Iterable[tuple[str, str]]) -> str:
    """Why a source does not provide all files, pairs of name and MD5; empty if it does."""
    for name, md5 in files:
        with TemporaryDirectory() as folder:
            try:
                download_url(f"{site.rstrip('/')}/{name}", folder, name, md5)
            except (OSError, RuntimeError, HTTPException) as error:
                return f"{name}: {error or type(error).__name__}"
    return ""


if __name__ == "__main__":
    main()
