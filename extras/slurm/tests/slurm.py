"""A SLURM cluster of two nodes on this machine."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pipeline.project import free_port

CONFIG = """
ClusterName=digits
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=1,sched_interval=2
NodeName=n1 NodeHostname={host} Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} Port={ports[2]} CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=120 State=UP OverSubscribe=NO
"""


def is_installed() -> bool:
    """Whether the daemons and the commands are."""
    return all(map(find, ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")))


def find(command: str) -> str | None:
    """Where a command is; the daemons' folder is not on every user's PATH."""
    return shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster, yield its environment variables, and end all that it started.

    Raises TimeoutError: it does not start.
    """
    (folder / "state").mkdir(parents=True)
    config = folder / "slurm.conf"
    names = {
        "host": socket.gethostname(),
        "user": getpass.getuser(),
        "ports": [free_port() for _ in range(3)],
    }
    config.write_text(CONFIG.format(folder=folder, **names))
    variables = {"SLURM_CONF": str(config)}
    commands = [["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]]
    daemons = []
    try:
        for command in commands:
            with (folder / "output").open("ab") as output:
                daemons.append(
                    subprocess.Popen(
                        [find(command[0]) or command[0], *command[1:]],
                        env=os.environ | variables, stdout=output, stderr=output,
                    )
                )  # fmt: skip
        wait_for(folder, variables, "sinfo", "--noheader", "--format=%T", expected="idle")
        yield variables
    finally:
        try:
            if daemons and daemons[0].poll() is None:
                run(variables, "scancel", "--quiet", f"--user={getpass.getuser()}")
                wait_for(folder, variables, "squeue", "--noheader", expected="")
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(20)


def wait_for(folder: Path, variables: dict[str, str], *command: str, expected: str) -> None:
    """Wait until a command of SLURM prints what is expected."""
    deadline = time.monotonic() + 120
    while (found := run(variables, *command)) != expected:
        logs = [path.read_text() for path in folder.glob("*.log")]
        if time.monotonic() > deadline:
            raise TimeoutError("\n".join([found, *logs]))
        time.sleep(0.2)


def run(variables: dict[str, str], *command: str) -> str:
    """A command's output."""
    environment = os.environ | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()
