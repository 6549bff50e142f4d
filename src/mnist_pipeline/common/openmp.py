"""How OpenMP's idle threads wait. Imports nothing, as torch loads OpenMP."""

import os

WAITING = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
"""Turns of a loop for GNU's library (about 0.1 ms), milliseconds for LLVM's and Intel's.

By default idle threads spin for longer than the scheduler's time slice. Beside another busy process
they then take the core from the thread that they wait for: measured, 20 times slower. Sleeping at
once doubles the time of a machine that is otherwise idle.
"""


def limit_spinning() -> None:
    """Let idle threads spin briefly and then sleep, unless the user has chosen otherwise.

    Has no effect once torch is imported.
    """
    if not {"OMP_WAIT_POLICY", *WAITING} & os.environ.keys():
        os.environ.update(WAITING)
