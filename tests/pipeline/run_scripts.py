"""Run scripts one after the other in this interpreter, which imports torch once: SCRIPT ..."""

import gc
import runpy
import sys
from pathlib import Path

for script in sys.argv[1:]:
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print("exit code", end.code, flush=True)
    gc.unfreeze()
