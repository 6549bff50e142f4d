"""Start workers of DVC's queue, each with its share of the cores and a GPU of its own.

    python tools/workers.py 2

Workers that are running already are left alone.
"""

import argparse
import multiprocessing
import os
import subprocess
from pathlib import Path

from _tool import ROOT

import yaml

from mnist_pipeline.common.cores import cores
from mnist_pipeline.common.errors import UserError, run_script
from mnist_pipeline.raw.sources import NO_DATA, OWN_DATA


def main() -> None:
    """Start the workers that are not running yet. Raises UserError: no Git, or a shallow clone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workers", type=int, help="experiments that run at a time")
    num_workers = parser.parse_args().workers
    from dvc.repo import Repo  # slow to import, and who imports `shares` may not need it

    if num_workers < 1:
        raise UserError(f"workers: found {num_workers}, expected a positive integer")
    if not str(ROOT).isascii() or {"#", "?"} & set(str(ROOT)):
        raise UserError(
            f"{ROOT}: found # or ? or a letter outside ASCII in the path, with which DVC's queue"
            " fails; rename or move the folder, or run experiments one by one without --queue"
        )
    command = ["git", "rev-parse", "--is-shallow-repository"]
    git = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    if git.returncode:
        raise UserError(git.stderr.strip())
    if git.stdout.strip() == "true":
        raise UserError(
            "this clone is shallow, and DVC would lose the results of its queue;"
            " 'git fetch --unshallow' completes it"
        )
    # A child inherits the environment of this moment, and not that of a fork server.
    multiprocessing.set_start_method("spawn")
    environments = shares(num_workers)
    with Repo(str(ROOT)) as repo:
        queue = repo.experiments.celery_queue
        for entry in queue.iter_queued():
            check_data(entry.name or entry.stash_rev[:7], entry.stash_rev)
        spawn_worker = queue._spawn_worker

        def spawn_worker_with_share(number: int) -> None:
            os.environ.update(environments[number - 1])
            spawn_worker(number)

        queue._spawn_worker = spawn_worker_with_share  # DVC's workers share one environment
        started = queue.start_workers(num_workers)
    print(f"Started {started} worker{'s' * (started != 1)}")


def check_data(name: str, commit: str) -> None:
    """Warn of data of the user that the copy of the experiment `name`, a commit, will not have."""
    settings = yaml.safe_load(run_git("show", f"{commit}:./params.yaml").stdout)
    for setting in OWN_DATA:
        data = Path(settings.get(setting, NO_DATA))  # queued before the setting was there
        tracked = [data, *(Path(f"{path}.dvc") for path in (data, *data.parents[:-1]))]
        if not data.is_absolute() and all(
            run_git("cat-file", "-e", f"{commit}:./{path.as_posix()}").returncode
            for path in tracked
        ):
            print(
                f"warning: experiment {name}: {setting}: {not_copied(str(data))},"
                f" or queue it with --copy-paths {data}"
            )


def run_git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run Git in the project's folder, which may be part of a larger repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)


def not_copied(path: str) -> str:
    """Why data in the workspace are missing in an experiment, and what helps."""
    return (
        f"{path} is tracked by neither Git nor DVC, so experiments do not have it; set its"
        f" absolute path, or run: dvc add {path} && git add {path}.dvc"
    )


def shares(num_workers: int) -> list[dict[str, str]]:
    """Environment variables that give each worker its share of the cores, and a GPU.

    Workers share a GPU only if there are fewer GPUs than workers. A single worker has no variables:
    its experiments give the same bytes as `dvc repro`.
    """
    if num_workers == 1:
        return [{}]
    threads = str(max(1, cores() // num_workers))
    gpus = visible_gpus()
    return [
        {"OMP_NUM_THREADS": threads}
        | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})
        for number in range(num_workers)
    ]


def visible_gpus() -> list[str]:
    """The GPUs in CUDA_VISIBLE_DEVICES if it is set, else all that nvidia-smi lists."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True).stdout
    except OSError:  # not installed
        return []
    return [str(gpu) for gpu in range(sum(line[:4] == b"GPU " for line in listed.splitlines()))]


if __name__ == "__main__":
    run_script(main)
