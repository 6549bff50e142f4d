"""The cores that a process may use, and work on all of them."""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from threading import Thread
from typing import TypeVar

MANY = 1000
"""Items from which other processes are worth their start: 1.6 s each on macOS and Windows."""
CHUNK = 16
"""Items that a process is sent at a time."""
MOST_PROCESSES = 61
"""What Windows can wait for."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many cores this process may use: under taskset or SLURM fewer than the machine has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_on_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield `function` of each item, in order; of MANY items, computed by a process per core.

    At most two chunks of results per process wait to be consumed. However this process ends, the
    others end with it. Raises BrokenProcessPool: one of them was killed.
    """
    processes = min(cores(), MOST_PROCESSES)
    if processes == 1 or len(items) < MANY:
        yield from map(function, items)
        return
    pending: deque[Future[list[Result]]] = deque()
    with ProcessPoolExecutor(processes, initializer=_start) as pool:
        for start in range(0, len(items), CHUNK):
            pending.append(pool.submit(_map, function, items[start : start + CHUNK]))
            if len(pending) > 2 * processes:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return list(map(function, items))


def _start() -> None:
    """Leave Ctrl-C to the parent process; end when it has ended, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
