"""First import of every stage and tool: put this checkout's library on the path.

The library is not installed, so a queued experiment runs the code it was queued with.
"""

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

from mnist_pipeline.common.openmp import limit_spinning

limit_spinning()
