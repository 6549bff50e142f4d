"""First import of every stage and tool: put this checkout's library on the path.

The library is not installed, so a queued experiment runs the code it was queued with.
"""

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

if not all(map(find_spec, ("torch", "pydantic", "safetensors"))):  # torch alone is common
    sys.exit(
        f"error: {sys.executable} does not have the pinned packages. 'make env' installs them into"
        " .venv; 'source .venv/bin/activate' makes its Python the one that runs this"
    )

SPLITS = [f"data/processed/{name}" for name in ("train", "validation", "test")]
FOLDERS = ["data", "data/raw", "data/processed", *SPLITS, "models", "metrics", "metrics/pictures"]


def refuse_links() -> None:
    """Exit if a folder that stages write to is a link: DVC would record nothing of the run."""
    for name in FOLDERS:
        if (target := (ROOT / name).resolve()) != ROOT / name:
            sys.exit(
                f"error: {name}: found a link to {target}, expected a folder, as DVC records"
                " nothing behind links. Move it back; to keep large files on another disk:"
                " dvc cache dir --local FOLDER; dvc config --local cache.type symlink"
            )


if "_tool" not in sys.modules:  # a tool may read what is behind a link
    refuse_links()

WAITING = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
"""How long idle OpenMP threads spin: iterations for GNU (about 0.1 ms), milliseconds for LLVM.

By default they spin for longer than the scheduler's time slice. Next to another busy process they
then occupy the core that the thread they wait for needs, and training was 20 times slower. Sleeping
at once took up to twice as long on an idle machine. Read when torch is imported.
"""

if not {"OMP_WAIT_POLICY", *WAITING} & os.environ.keys():  # unless the user has chosen otherwise
    os.environ.update(WAITING)
