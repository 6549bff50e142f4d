"""Other work on the cores of a run, beside which fewer threads may be faster."""

import os
import sys
import time
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path

import torch


class OtherWork:
    """Says on stderr when other processes slow the threads of a run on a CPU of Linux.

    Threads share each operation equally, so that all wait for the one whose core is shared. Their
    number stays what it is, because it shapes the bytes.
    """

    period = 1.0  # seconds to judge by, at least; Linux may take 0.2 to spread threads over cores

    def __init__(self, device: torch.device) -> None:
        alone = os.environ.get("LOCAL_WORLD_SIZE", "1") == "1"  # other ranks are no other work
        watches = device.type == "cpu" and alone and os.access("/proc/stat", os.R_OK)
        self.threads = torch.get_num_threads() if watches else 1
        self.last = time.perf_counter(), seconds_waited()

    def warn_at_start(self) -> None:
        """Sleep for 0.1 s, and warn if others leave fewer cores than there are threads."""
        if self.threads > 1:
            cores, busy = cores_and_busy()
            free = cores - busy if busy else self.threads
            self._warn(free, f"occupies {busy} of {cores} cores")

    def warn_once(self) -> None:
        """Warn if threads have waited for a core for a quarter of the time since the last call."""
        (since, before), now = self.last, time.perf_counter()
        if self.threads == 1 or now - since < self.period or active_children():  # workers
            return
        waited = seconds_waited()
        self.last = now, waited
        gained = [waited[thread] - before.get(thread, 0.0) for thread in waited]
        slowed = sum(seconds > (now - since) / 4 for seconds in gained)
        if slowed:
            self._warn(self.threads - slowed, "keeps threads waiting for a core")
            self.threads = 1

    def _warn(self, better: int, reason: str) -> None:
        """Print a line if a smaller number of threads is better."""
        if better < self.threads:
            number = f"threads: {max(1, better)} may be faster than {self.threads}"
            print(f"warning: other work {reason}; {number}, and gives other bytes", file=sys.stderr)


def cores_and_busy() -> tuple[int, int]:
    """How many cores this process may use, and how many of them are busy while it sleeps for 0.1 s.

    Niced work counts only for a niced process; it gives way to others. Source: proc_stat(5).
    """
    if sys.platform != "linux":
        return 0, 0
    cores = os.sched_getaffinity(0)
    before = ticks(cores)
    time.sleep(0.1)
    spent = [after - earlier for after, earlier in zip(ticks(cores), before, strict=True)]
    user, nice, system, _idle, _iowait, irq, softirq = spent
    busy = user + system + irq + softirq + (nice if os.nice(0) > 0 else 0)
    return len(cores), round(len(cores) * busy / max(1, sum(spent)))


def ticks(cores: set[int]) -> list[int]:
    """Of these cores together, so far: user, nice, system, idle, iowait, irq, softirq."""
    names = {f"cpu{core}" for core in cores}
    lines = Path("/proc/stat").read_text("ascii").splitlines()
    rows = [line.split()[1:8] for line in lines if line.split()[0] in names]
    return [sum(int(row[kind]) for row in rows) for kind in range(7)]


def seconds_waited() -> dict[str, float]:
    """Seconds that each thread of this process was ready to run and had no core.

    Nothing where the system does not say. Source: Documentation/scheduler/sched-stats.rst in Linux.
    """
    waited = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended
            waited[path.parent.name] = int(path.read_text("ascii").split()[1]) / 1e9
    return waited
