"""The library that the stages share; the README shows its modules in the order data meets them."""

import sys
from importlib.util import find_spec

if find_spec("torch") is None:
    sys.exit(
        f"error: {sys.executable} has none of the pinned packages. 'make env' installs them into"
        " .venv, 'source .venv/bin/activate' makes its Python the one that stages run"
    )
