"""Work on all cores: processes that end with the one that started them."""

import signal
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest

from mnist_pipeline.common import cores

from ..conftest import ROOT

WORK = f"""
import sys, time
sys.path.insert(0, {str(ROOT / "src")!r})
from mnist_pipeline.common import cores
if __name__ == "__main__":
    cores.cores, cores.MANY = lambda: 2, 1
    for done in cores.map_on_cores(time.sleep, [0] * cores.CHUNK + [9] * 100):
        print(done, flush=True)
"""


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGTERM"])
def test_no_process_outlives_the_one_that_started_it(sent: str) -> None:
    number = getattr(signal, sent, signal.SIGTERM)  # Windows has no SIGKILL
    with subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(number)
        process.communicate(timeout=300)  # until nothing holds the pipe open


def test_results_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = []
    submit = ProcessPoolExecutor.submit

    def counted(*arguments: Any) -> Future[Any]:
        submitted.append(arguments)
        return submit(*arguments)

    monkeypatch.setattr(cores, "cores", lambda: 2)
    monkeypatch.setattr(ProcessPoolExecutor, "submit", counted)
    results = cores.map_on_cores(abs, range(-5000, 0))
    assert next(results) == 5000
    assert len(submitted) == 5, "two chunks per process and the one that is consumed"
    assert list(results) == list(range(4999, 0, -1))
