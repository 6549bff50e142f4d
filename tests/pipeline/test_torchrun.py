"""Training in several processes: the real torchrun, on one host and on two."""

import csv
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from mnist_pipeline.splits.batches import load_split

from .project import Project, free_port
from .test_kills import start, wait_until


def curve(project: Project) -> list[list[float]]:
    """Loss and accuracy of training and validation, one row per epoch."""
    with (project.folder / "metrics/history.csv").open() as file:
        return [[float(value) for value in row][2:] for row in list(csv.reader(file))[1:]]


def test_one_and_three_processes_learn_alike(project: Project) -> None:
    images = len(load_split(project.folder / "data/processed", "train"))
    # The last batch of an epoch has too few images for all.
    size = next(size for size in range(20, 400) if 0 < images % size < 3)
    project.set_params(batch_size=size, augmentation="affine", epochs=4)
    curves = []
    for launcher in (["python"], ["torchrun", "--standalone", "--nproc-per-node", "3"]):
        output = project.run(*launcher, "stages/train.py", OMP_NUM_THREADS="1")
        assert output.count("Epoch [4/4]: train loss") == 1, "one process speaks"
        curves.append(curve(project))
    for row, expected in zip(*curves, strict=True):
        assert row == pytest.approx(expected, abs=1e-3)


def test_one_of_the_tasks_of_a_step_trains_in_a_folder(project: Project, tmp_path: Path) -> None:
    """As under srun -n 2; a task may train another experiment in a clone of its own."""
    project.env["SLURM_STEP_NUM_TASKS"] = "2"
    other = project.copy(tmp_path / "another clone")
    other.env = project.env
    project.set_params(epochs=100000)
    process = start(project, tmp_path / "log", "python", "stages/train.py")
    try:
        wait_until((project.folder / "models/checkpoint.safetensors").exists, process)
        output = project.run("python", "stages/train.py", status=1)
        assert re.fullmatch(r"error: .*/models: found another process that trains .*\n", output)
        assert "Epoch [3/3]" in other.run("python", "stages/train.py")
        assert process.poll() is None
    finally:
        kill_tree(process)
    assert project.run("git", "status", "--porcelain", "models") == ""


class Hosts(NamedTuple):
    """Two of them: the name of the first, and what to write before a command to run it on each."""

    name: str
    prefixes: tuple[list[str], list[str]]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Two network namespaces joined by a cable, where one may make them; else this host, twice."""
    names = [f"digits{os.getpid()}{letter}" for letter in "ab"]
    known = tmp_path / "hosts"
    known.write_text(f"127.0.0.1 localhost\n10.77.0.1 {names[0]}\n10.77.0.2 {names[1]}\n")
    # In the namespaces of its own, a host has its own name and its own list of the others'.
    enter = (
        'mount --bind "$1" /etc/hosts && echo "$0" > /proc/sys/kernel/hostname'
        ' && shift && exec "$@"'
    )
    commands = [["netns", "add", name] for name in names]
    commands.append(
        ["link", "add", "cable", "netns", names[0], "type", "veth",
         "peer", "name", "cable", "netns", names[1]]
    )  # fmt: skip
    for number, name in enumerate(names, start=1):
        commands.append(["-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "cable"])
        commands += [["-n", name, "link", "set", link, "up"] for link in ("lo", "cable")]
    prefixes = tuple(
        ["ip", "netns", "exec", name, "unshare", "--uts", "--mount", "sh", "-c", enter, name,
         str(known)]
        for name in names
    )  # fmt: skip
    first, second = prefixes
    try:
        for command in commands:
            subprocess.run(["ip", *command], check=True, capture_output=True)
        subprocess.run([*first, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        print("two agents on 127.0.0.1: no network namespaces may be made here")
        yield Hosts("127.0.0.1", ([], []))
    else:
        yield Hosts(names[0], (first, second))
    finally:
        if shutil.which("ip"):
            for name in names:
                subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def test_a_host_killed_in_mid_training_and_started_again(
    two_processes: Project, hosts: Hosts, tmp_path: Path
) -> None:
    undisturbed = two_processes.outs()
    project = two_processes.copy(tmp_path / "on the first host")
    project.env |= {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    port = free_port()
    line = (
        "torchrun --nnodes 2 --nproc-per-node 1 --max-restarts 3"
        f" --rdzv-backend c10d --rdzv-endpoint {hosts.name}:{port}"
    )
    second = project.copy(tmp_path / "on the second host")
    second.env = project.env
    project.set_params(launcher=line)
    shutil.rmtree(second.folder / "models")
    on_first, on_second = hosts.prefixes
    logs = [tmp_path / f"log {number}" for number in (1, 2, 3)]
    processes = [start(project, logs[0], *on_first, "dvc", "repro", "-s", "train")]
    try:
        processes.append(start(second, logs[1], *on_second, *line.split(), "stages/train.py"))
        wait_until(lambda: "Epoch [2/5]: train loss" in logs[0].read_text(), processes[0])
        kill_tree(processes[1])
        shutil.rmtree(second.folder / "models")  # a new machine in its place
        processes.append(start(second, logs[2], *on_second, *line.split(), "stages/train.py"))
        assert processes[0].wait(600) == 0, logs[0].read_text()
        assert processes[2].wait(300) == 0, logs[2].read_text()
    finally:
        for process in processes:
            kill_tree(process)
    for log in (logs[0], logs[2]):
        assert "Resuming after epoch" in log.read_text()
    assert project.outs() == undisturbed
    name = "models/model.safetensors"
    assert (second.folder / name).read_bytes() == undisturbed[name]


def run_two_agents(first: Project, second: Project, tmp_path: Path) -> tuple[list[int], str]:
    """Train with an agent in each checkout; their exit codes, and what both wrote."""
    line = (
        "torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d"
        f" --rdzv-endpoint 127.0.0.1:{free_port()}"
    )
    logs = [tmp_path / "log 1", tmp_path / "log 2"]
    processes = [
        start(project, log, *line.split(), "stages/train.py")
        for project, log in zip((first, second), logs, strict=True)
    ]
    try:
        statuses = [process.wait(300) for process in processes]
    finally:
        for process in processes:
            kill_tree(process)
    return statuses, "".join(log.read_text() for log in logs)


def test_two_hosts_may_share_a_file_system(two_processes: Project, tmp_path: Path) -> None:
    expected = two_processes.outs()
    project = two_processes.copy(tmp_path / "shared")
    project.env["OMP_NUM_THREADS"] = "1"
    for name in ("models/model.safetensors", "metrics/train.json", "metrics/history.csv"):
        (project.folder / name).unlink()
    statuses, output = run_two_agents(project, project, tmp_path)
    assert statuses == [0, 0], output
    assert project.outs() == expected
    assert not list((project.folder / "models").glob(".*.partial"))


def test_a_host_with_other_params_is_named(project: Project, tmp_path: Path) -> None:
    project.env["OMP_NUM_THREADS"] = "1"
    other = project.copy(tmp_path / "another checkout")
    other.set_params(seed=1)
    statuses, output = run_two_agents(project, other, tmp_path)
    assert 0 not in statuses
    assert re.search(r"launcher: .* \(rank 1\) and .* \(rank 0\) differ in params;", output)
    assert "Step [" not in output
    report = output.rpartition("Root Cause (first observed failure):")[2]
    assert re.search(r"traceback : launcher: .* differ in params;", report)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, in whatever process group."""
    if process.poll() is None:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for part in tree:
            part.send_signal(signal.SIGKILL)
        process.wait()
