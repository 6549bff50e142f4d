"""How idle OpenMP threads wait. Does not import torch, which loads OpenMP."""

import os

WAITING = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
"""How long they spin: iterations for GNU (about 0.1 ms), milliseconds for LLVM and Intel.

By default they spin for longer than the scheduler's time slice. Next to another busy process they
then occupy the core that the thread they wait for needs, and training was 20 times slower. Sleeping
at once took up to twice as long on an idle machine.
"""


def limit_spinning() -> None:
    """Let idle threads spin briefly and then sleep, unless the user has chosen otherwise.

    Has no effect once torch is imported.
    """
    if not {"OMP_WAIT_POLICY", *WAITING} & os.environ.keys():
        os.environ.update(WAITING)
