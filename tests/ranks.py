"""Real processes as the ranks of a run."""

import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import set_forkserver_preload

import torch
from torch.multiprocessing.spawn import start_processes

from mnist_pipeline.runtime.distributed import process_group

# Where a fork is safe, one process imports what takes seconds, and each rank is a fork of it.
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
set_forkserver_preload(["pandas", "sklearn.model_selection", "torch"])


def run_ranks(
    world_size: int, function: Callable[..., None], *arguments: object, one_host: bool = False
) -> None:
    """Call a function of a module on every rank; whatever it raises fails the test.

    Each rank is the only one of its host, or all are on one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = (world_size, one_host, port, function, arguments)
    start_processes(_join, shared, world_size, start_method=METHOD)


def _join(
    rank: int,
    world_size: int,
    one_host: bool,
    port: int,
    function: Callable[..., None],
    arguments: tuple,
) -> None:
    """Join the process group as torchrun has its processes do."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank if one_host else 0),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    with process_group(torch.device("cpu")):
        function(*arguments)
