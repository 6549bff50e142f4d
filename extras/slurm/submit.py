"""Submit the experiments in DVC's queue to SLURM, one job each.

    python extras/slurm/submit.py [OPTIONS OF SBATCH...]

A job runs its experiment in a clone under .dvc/tmp/jobs, brings the result into the project and
takes the experiment off the queue. Until then the clone stays, so a job that is requeued, or
submitted again after it failed, resumes from its last epoch.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("tools", "")]

from _tool import ROOT

from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.experiments.exceptions import UnresolvedExpNamesError
from dvc.repo.experiments.executor.base import BaseExecutor
from dvc.repo.experiments.queue.base import QueueEntry
from workers import check_data

from extras._clone import Clone, call
from mnist_pipeline.common.errors import UserError, run_script

JOBS = ROOT / ".dvc/tmp/jobs"


def main() -> None:
    """Submit what is queued and has no job, or run one experiment as its job."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--run", metavar="EXPERIMENT", help="run a queued experiment, as its job")
    options, sbatch_options = parser.parse_known_args()
    with Repo(str(ROOT)) as repo:
        entries = repo.experiments.celery_queue.iter_queued()
        queue = {entry.name or entry.stash_rev[:7]: entry for entry in entries}
    if options.run is None:
        submit(queue, sbatch_options)
    elif options.run in queue:
        run_queued(options.run, queue[options.run])
    else:
        print(f"{options.run}: no longer in the queue, so there is nothing to do")


def submit(queue: dict[str, QueueEntry], options: list[str]) -> None:
    """Submit each queued experiment that has no job. Raises UserError: no SLURM, an empty queue."""
    if shutil.which("sbatch") is None:
        raise UserError("sbatch: not found; run this where SLURM's commands are installed")
    JOBS.mkdir(parents=True, exist_ok=True)
    jobs = find_jobs()
    for path in JOBS.iterdir():
        name = path.name.removeprefix(".").removesuffix(".partial")
        if path.is_dir() and name not in {*queue, *jobs}:
            shutil.rmtree(path)  # the clone of an experiment that was taken off the queue by hand
    if not queue:
        raise UserError("the queue is empty; 'dvc exp run --queue' adds an experiment")
    for name, entry in queue.items():
        check_data(name, entry.stash_rev)
        log = JOBS / f"{name}.log"
        if name in jobs:
            print(f"{name}: job {jobs[name]} waits or runs")
            continue
        if log.exists():
            print(f"{name}: its last job failed, see {log.relative_to(ROOT)}; submitted again")
        job = call(
            ROOT, "sbatch", "--parsable", f"--job-name={name}", f"--chdir={ROOT}", "--requeue",
            f"--output={log}", "--open-mode=append", *options,
            "--wrap", shlex.join([sys.executable, str(Path(__file__).resolve()), "--run", name]),
        )  # fmt: skip
        print(f"{name}: job {job.partition(';')[0]}")


def find_jobs() -> dict[str, str]:
    """The ids of this project's jobs that wait or run, by the names of their experiments."""
    lines = call(ROOT, "squeue", "--me", "--noheader", "--format=%i %j %Z").splitlines()
    jobs = (line.split(maxsplit=2) for line in lines)
    return {name: number for number, name, folder in jobs if folder == str(ROOT)}


def run_queued(name: str, entry: QueueEntry) -> None:
    """Run a queued experiment in its clone, then bring it into the project. Raises UserError."""
    cores = os.environ.get("SLURM_CPUS_PER_TASK", "1")
    share = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", cores),
        "SRUN_CPUS_PER_TASK": cores,  # srun does not take it from its job
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    folder = JOBS / name
    clone = Clone(folder, entry.stash_rev, share)
    if not clone.ref(name):
        call(clone.folder, "git", "update-ref", "--no-deref", "HEAD", entry.baseline_rev)
        # DVC keeps the other arguments of `dvc exp run --queue` in a file of the queued commit.
        arguments = clone.folder / ".dvc/tmp" / BaseExecutor.PACKED_ARGS_FILE
        _, queued = BaseExecutor.unpack_repro_args(arguments)
        call(clone.folder, "git", "rm", "--quiet", "--force", str(arguments))
        command = [sys.executable, "-m", "dvc", "exp", "run", "--name", name]
        command += [*(["--force"] if queued.get("force") else []), *(queued.get("targets") or [])]
        if subprocess.run(command, cwd=clone.folder, env=os.environ | share).returncode:
            raise UserError(
                f"{name} failed; 'make submit' submits it again, 'dvc queue remove {name}' drops it"
            )
    clone.push(name)
    take_off_queue(name)
    shutil.rmtree(folder)


def take_off_queue(name: str, seconds: float = 60) -> None:
    """Remove an experiment from DVC's queue, under DVC's lock: other jobs do the same."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with Repo(str(ROOT)) as repo, repo.lock, suppress(UnresolvedExpNamesError):
                repo.experiments.celery_queue.remove([name])  # unless it was removed by hand
            return
        except LockError as error:
            if time.monotonic() > deadline:
                raise UserError(f"{name} has finished, but is still queued: {error}") from None


if __name__ == "__main__":
    run_script(main)
