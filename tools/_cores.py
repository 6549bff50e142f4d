"""The cores that a process may use."""

import os
import sys


def cores() -> int:
    """How many cores this process may use: under taskset or SLURM fewer than the machine has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
