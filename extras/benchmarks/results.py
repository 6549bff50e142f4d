"""extras/benchmarks/results.json: the last results of each kind of machine, by section."""

import json
import platform
import re
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mnist_pipeline.common.cores import cores
from mnist_pipeline.common.files import write_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "extras/benchmarks/results.json"
SPEED_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Instruction sets that decide how fast float32 and bfloat16 are, as /proc/cpuinfo spells them."""


def machine() -> dict[str, Any]:
    """Hardware and versions that the results depend on."""
    path = Path("/proc/cpuinfo")  # Linux only
    cpuinfo = path.read_text() if path.exists() else ""
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    return {
        "processor": model[1] if model else platform.processor(),
        "flags": [flag for flag in SPEED_FLAGS if flag in cpuinfo.split()],
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "dvc", "numpy")},
    }


def kind(machine: dict[str, Any]) -> str:
    """Name of a kind of machine, such as "AMD EPYC, AVX2, 2 cores"."""
    best_flag = [flag.upper() for flag in machine["flags"][-1:]]
    cores = [f"{machine['cores']} cores"]
    return ", ".join([machine["gpu"] or machine["processor"], *best_flag, *cores])


def read() -> dict[str, dict[str, Any]]:
    """Every kind of machine with its sections, each with `date`, `machine` and `rows`."""
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}


def save(section: str, rows: dict[str, Any]) -> None:
    """Replace a section of this kind of machine."""
    results, here = read(), machine()
    found = {"date": date.today().isoformat(), "machine": here, "rows": rows}
    results.setdefault(kind(here), {})[section] = found
    write_json(RESULTS, results)
