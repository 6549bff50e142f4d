"""Real processes as the ranks of a run, each the only one of its host."""

import os
import socket
from collections.abc import Callable

import torch
from torch.multiprocessing.spawn import spawn

from mnist_pipeline.common.distributed import process_group


def run_ranks(world_size: int, function: Callable[..., None], *arguments: object) -> None:
    """Call a function of a module on every rank; whatever it raises fails the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_join, (world_size, port, function, arguments), world_size)


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
