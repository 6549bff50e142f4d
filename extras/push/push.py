"""Push the run cache and every file that its runs wrote to DVC's default remote.

`dvc push --run-cache` pushes the records of all runs, but only the outs named in dvc.lock
(https://github.com/treeverse/dvc/pull/10472), and a record without its outs saves nobody a run.
"""

import argparse
import logging
import sys
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from _tool import ROOT

from dvc.exceptions import DvcException, UploadError
from dvc.repo import Repo
from dvc.stage.cache import StageCache

from mnist_pipeline.common.errors import UserError, run_script


def main() -> None:
    """Push the outs of all runs in the run cache, then those in dvc.lock and the runs' records.

    Raises UserError: the remote did not take all of them.
    """
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    try:
        with Repo(str(ROOT)) as repo:
            outs, num_runs, num_lacking = cached_outs(repo.stage_cache)
            pushed, failed = map(len, repo.cloud.push(outs))
            if not failed:
                more, failed = push_rest(repo)
                pushed += more
    except DvcException as error:
        raise UserError(" ".join(str(error).split())) from None
    except Exception as error:  # every kind of remote has a library with errors of its own
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"the remote takes no files ({problem}); once that is mended, run 'make push' again"
        ) from None
    if failed:
        raise UserError(
            f"{failed} files were not pushed, for the reasons above; once these are mended,"
            " 'make push' pushes the rest"
        )
    print(f"Pushed {pushed} files of {num_runs} runs")
    if num_lacking:
        print(f"{num_lacking} of these runs lack outs, which 'dvc gc' has removed from the cache")


def cached_outs(run_cache: StageCache) -> tuple[set[Any], int, int]:
    """All outs of runs that are in the cache, the number of runs, and of those that lack outs."""
    outs: set[Any] = set()
    num_runs = num_lacking = 0
    for path in Path(run_cache.cache_dir).glob("*/*/*"):
        if record := run_cache._load_cache(path.parent.name, path.name):
            stage = run_cache._create_stage(record)
            cached = [out for out in stage.outs if not out.changed_cache()]
            for out in cached:
                outs.update(*out.get_used_objs().values())
            num_runs += 1
            num_lacking += len(cached) < len(stage.outs)
    return outs, num_runs, num_lacking


def push_rest(repo: Repo) -> tuple[int, int]:
    """Push the outs in dvc.lock and the runs' records; how many were pushed, and how many not."""
    errors = BufferingHandler(sys.maxsize)  # of records: DVC only logs them
    errors.setLevel(logging.ERROR)
    logging.getLogger("dvc_objects.fs.generic").addHandler(errors)
    try:
        return repo.push(run_cache=True), len(errors.buffer)
    except UploadError as error:
        return 0, len(errors.buffer) + error.amount


if __name__ == "__main__":
    run_script(main)
