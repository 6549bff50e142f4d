"""Push the cache to the default remote, with the records of all runs and everything they wrote.

`dvc push --run-cache` sends every record, but only those outs that dvc.lock names, because it
collects nothing else (https://github.com/treeverse/dvc/pull/10472); and a record whose outs are
missing saves nobody a run.
"""

import sys
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo


def main() -> None:
    """Push what dvc.lock names, then what the runs in the cache name."""
    with Repo() as repo:
        pushed = repo.push(run_cache=True)
        records = Path(repo.stage_cache.cache_dir).glob("*/*/*")
        runs = [(record.parent.name, record.name) for record in records]
        for outs in repo.stage_cache.get_used_objs(runs).values():
            pushed += len(repo.cloud.push(outs).transferred)
    print(f"{pushed} files pushed, of {len(runs)} runs")


if __name__ == "__main__":
    try:
        main()
    except DvcException as error:
        sys.exit(f"error: {error}")
