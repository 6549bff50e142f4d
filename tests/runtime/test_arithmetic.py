"""Arithmetic, devices, precision and random streams."""

import json
import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from mnist_pipeline.common.errors import UserError
from mnist_pipeline.runtime.arithmetic import (
    PORTABLE,
    choose_precision,
    use_deterministic_algorithms,
)
from mnist_pipeline.runtime.device import choose_device, prepare_model
from mnist_pipeline.runtime.streams import stream_seed

from ..conftest import ROOT

CPU = torch.device("cpu")
SET_UP = """
import json, os, sys
sys.path.insert(0, "stages")
import _stage
import torch
from mnist_pipeline.runtime.arithmetic import HardwareSettings, environment, set_up
arithmetic, number = sys.argv[1:]
settings = {"arithmetic": arithmetic, "device": "cpu"}
device = set_up(HardwareSettings(**settings, threads="auto"))
found = [dict(os.environ), environment(arithmetic, device), torch.get_num_threads()]
set_up(HardwareSettings(**settings, threads=int(number)))
print(json.dumps([*found, torch.get_num_threads()]))
"""
NAMES = [*PORTABLE, "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"]


def set_up(
    arithmetic: str, threads: int, **variables: str
) -> tuple[dict[str, str], dict[str, str | int], int, int]:
    """A fresh process set up for an arithmetic with threads: auto, and then with a number of them.

    Its variables and environment, and how many threads it has each time.
    """
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", SET_UP, arithmetic, str(threads)],
        cwd=ROOT, env=clean | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found, environment, auto, number = json.loads(done.stdout)
    return {name: found[name] for name in NAMES if name in found}, environment, auto, number


def test_portable_arithmetic_is_the_same_whatever_the_user_has_set() -> None:
    changes = {"MKL_CBWR": "AUTO", "OMP_NUM_THREADS": "3"}
    variables, environment, auto, number = set_up("portable", 3, **changes)
    if torch.cpu.get_capabilities().get("avx2"):
        assert variables.items() >= PORTABLE.items()
        assert environment["processor"] == "x86_64 AVX2"
    assert auto == environment["threads"] == 1
    assert number == 3


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="needs an x86-64 CPU")
def test_imports_leave_the_choice_of_instructions_to_set_up() -> None:
    modules = ROOT.glob("src/mnist_pipeline/*/[!_]*.py")
    names = [".".join(module.relative_to(ROOT / "src").with_suffix("").parts) for module in modules]
    code = f"""
import importlib, os, sys
sys.path.insert(0, "src")
for name in {names}:
    importlib.import_module(name)
os.environ["ATEN_CPU_CAPABILITY"] = "default"
import torch
print(torch.backends.cpu.get_cpu_capability())
"""
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "DEFAULT\n"


def test_native_arithmetic_leaves_all_as_it_is() -> None:
    changes = {"MKL_CBWR": "AUTO", "OMP_NUM_THREADS": "1"}
    variables, environment, auto, number = set_up("native", 2, **changes)
    assert not {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"} & variables.keys()
    assert variables["MKL_CBWR"] == "AUTO"
    assert auto == environment["threads"] == 1
    assert str(environment["processor"]).endswith(torch.cpu.get_capabilities()["cpu_name"])
    assert number == 2


def test_idle_threads_spin_briefly_unless_the_user_says_otherwise() -> None:
    def spin_count(**variables: str) -> str:
        """What a stage sets before it imports torch."""
        clean = {name: value for name, value in os.environ.items() if name not in NAMES}
        code = "import os, _stage; print(os.environ.get('GOMP_SPINCOUNT', ''))"
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT / "stages", env=clean | variables, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    assert int(spin_count()) <= 10_000
    assert spin_count(OMP_WAIT_POLICY="ACTIVE") == ""
    assert spin_count(GOMP_SPINCOUNT="7") == "7"


def test_auto_precision_is_bfloat16_only_where_it_is_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has = {"computed": True}
    name = "mnist_pipeline.runtime.arithmetic.computes_bfloat16"
    monkeypatch.setattr(name, lambda device: has["computed"])
    assert choose_precision("auto", "native", CPU) == "bfloat16"
    assert choose_precision("auto", "portable", CPU) == "float32"
    assert choose_precision("bfloat16", "native", CPU) == "bfloat16"
    assert capsys.readouterr().out == ""
    has["computed"] = False
    assert choose_precision("auto", "native", CPU) == "float32"
    assert choose_precision("bfloat16", "native", CPU) == "bfloat16"
    assert "bfloat16 is emulated" in capsys.readouterr().out


def test_mps_may_use_what_is_not_deterministic_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = torch.get_deterministic_debug_mode()
    try:
        use_deterministic_algorithms(torch.device("mps"))
        assert torch.get_deterministic_debug_mode() == 1  # warns
        assert capsys.readouterr().out.count("\n") == 1
        use_deterministic_algorithms(CPU)
        assert torch.get_deterministic_debug_mode() == 2  # raises
    finally:
        torch.set_deterministic_debug_mode(before)


def test_streams_differ_by_seed_use_and_epoch() -> None:
    seeds = {
        stream_seed(seed, use, epoch)
        for seed in range(5)
        for use in ("shuffle", "dropout")
        for epoch in range(20)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(0, "shuffle", 1) == 5019792774979233439  # the same everywhere, for ever


def test_auto_picks_an_available_device() -> None:
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (choose_device("auto").type != "cpu") == gpu
    assert choose_device("cpu") == CPU
    assert choose_device("auto", "portable") == CPU


def test_a_missing_device_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(UserError, match="found cuda, which torch cannot use here; expected"):
        choose_device("cuda")


def test_one_device_needs_no_wrapper() -> None:
    model = nn.Linear(2, 2)
    assert prepare_model(model, "native", CPU, [2]) is model


def test_several_gpus_share_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    model = prepare_model(nn.Linear(2, 2), "native", torch.device("cuda"), [2])
    assert isinstance(model, nn.DataParallel)
    assert f"Let's use {torch.cuda.device_count()} GPUs!" in capsys.readouterr().out
    assert model(torch.ones(8, 2)).shape == (8, 2)
