"""Push the run cache and every file that its runs wrote to DVC's default remote.

`dvc push --run-cache` pushes the records of all runs, but only the outs named in dvc.lock
(https://github.com/treeverse/dvc/pull/10472), and a record without its outs saves nobody a run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from _tool import ROOT

from dvc.exceptions import DvcException
from dvc.repo import Repo


def main() -> None:
    """Push the outs in dvc.lock, then those of all runs in the run cache."""
    with Repo(str(ROOT)) as repo:
        pushed = repo.push(run_cache=True)
        records = Path(repo.stage_cache.cache_dir).glob("*/*/*")
        runs = [(record.parent.name, record.name) for record in records]
        for outs in repo.stage_cache.get_used_objs(runs).values():
            pushed += len(repo.cloud.push(outs).transferred)
    print(f"Pushed {pushed} files of {len(runs)} runs")


if __name__ == "__main__":
    try:
        main()
    except DvcException as error:
        sys.exit(f"error: {error}")
