"""Real processes as the ranks of a run, each the only one of its host."""

import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import set_forkserver_preload

import torch
from torch.multiprocessing.spawn import start_processes

from mnist_pipeline.common.distributed import process_group

# Where a fork is safe, one process imports what takes seconds, and each rank is a fork of it.
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
set_forkserver_preload(["pandas", "sklearn.model_selection", "torch"])


def run_ranks(world_size: int, function: Callable[..., None], *arguments: object) -> None:
    """Call a function of a module on every rank; whatever it raises fails the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(_join, (world_size, port, function, arguments), world_size, start_method=METHOD)


def _join(
    rank: int, world_size: int, port: int, function: Callable[..., None], arguments: tuple
) -> None:
    """Join the process group as torchrun has its processes do."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    with process_group(torch.device("cpu")):
        function(*arguments)
