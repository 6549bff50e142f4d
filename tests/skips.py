"""In CI a test that is skipped for a reason not listed here is a failure: pytest -p tests.skips."""

import sys
from typing import Any

import pytest

ALLOWED = {
    "needs two GPUs": "no machine of CI has any",
    "needs SLURM": "its daemons take root's configuration of the machine",
    "root reads every folder": "where the tests run as root",
    "this user may not mount file systems": "where they do not",
    "no row for": "the processor is another every day; the job mnist fails if its bytes differ",
}
if sys.platform != "linux":
    ALLOWED |= {
        "needs an x86-64 CPU": "of which the test is",
        "reads /proc": "which Linux alone has",
        "elsewhere PyTorch's one build has no CUDA": "so there is nothing to choose",
    }

skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what was skipped, and why."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2])
        if not any(allowed in reason for allowed in ALLOWED):
            skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: Any) -> None:
    """Let the run fail."""
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what should not have been skipped."""
    for line in skipped:
        terminalreporter.line(f"not to be skipped here: {line}", red=True)
