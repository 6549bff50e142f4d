"""Arithmetic, threads, determinism and precision: what shapes a result and its speed."""

import os
import warnings
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from ..common.settings import Settings
from .device import choose_device
from .distributed import world_size
from .memory import reuse_freed_memory

# Required by torch.use_deterministic_algorithms; CUDA reads it when it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2,STRICT", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment variables: ATen, MKL and oneDNN use AVX2 at most, and MKL its reproducible mode.

MKL promises equal results on Intel CPUs only; docs/reliability.md says what has been compared.
Sources: aten/src/ATen/native/DispatchStub.cpp in PyTorch; oneMKL Developer Guide, Specifying Code
Branches; oneDNN Developer Guide, CPU Dispatcher Control.
"""

BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Capabilities of CPUs that compute in bfloat16, as torch.cpu.get_capabilities names them."""


def check_threads(threads: object) -> object:
    """Accept only "auto" and integers from 1 to 1024."""
    if threads != "auto" and not (type(threads) is int and 1 <= threads <= 1024):
        raise PydanticCustomError("threads", "auto, or a number of threads from 1 to 1024")
    return threads


class HardwareSettings(Settings):
    """Settings of the arithmetic, which train and evaluate share."""

    arithmetic: Literal["portable", "native"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: Annotated[int | Literal["auto"], BeforeValidator(check_threads)]


def set_up(settings: HardwareSettings) -> torch.device:
    """Set arithmetic, threads, determinism and memory of this process; return the device.

    Has to be called before torch computes anything: its libraries choose their instructions then.
    Raises UserError: torch cannot use the device here.
    """
    if settings.arithmetic == "portable" and torch.cpu.get_capabilities().get("avx2"):
        os.environ.update(PORTABLE)
        if torch.backends.cpu.get_cpu_capability() != "AVX2":
            raise RuntimeError("torch chose its instructions before set_up")
    threads = settings.threads
    if threads == "auto" and settings.arithmetic == "portable":
        threads = 1  # convolutions and batch normalization sum in an order that depends on it
    if threads != "auto":
        torch.set_num_threads(threads)
    device = choose_device(settings.device, settings.arithmetic)
    use_deterministic_algorithms(device)
    reuse_freed_memory()
    return device


def use_deterministic_algorithms(device: torch.device) -> None:
    """Allow only algorithms that give the same bytes every time; on MPS, prefer them.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if device.type == "mps":  # has no deterministic algorithm for max pooling, for example
        torch.set_deterministic_debug_mode("warn")
        warnings.filterwarnings("ignore", ".*does not have a deterministic implementation")
        print("device: some operations on mps are not deterministic; last digits may differ")
    else:
        torch.set_deterministic_debug_mode("error")
    # No code here reads uninitialized memory, so filling it would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def choose_precision(name: str, arithmetic: str, device: torch.device) -> str:
    """The precision that the setting `precision` names: "float32" or "bfloat16".

    "auto" is bfloat16 where the device computes in it; with portable arithmetic always float32.
    """
    if name == "auto":
        fast = arithmetic == "native" and computes_bfloat16(device)
        return "bfloat16" if fast else "float32"
    if name == "bfloat16" and not computes_bfloat16(device):
        print(
            f"precision: bfloat16 is emulated on this {device.type}, which takes about ten times as"
            " long as float32; precision: auto uses it only where the device computes in it"
        )
    return name


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16, instead of emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    if torch.backends.cpu.get_cpu_capability() == "AVX2":  # all that it has, or may use
        return False
    return any(torch.cpu.get_capabilities().get(name) for name in BFLOAT16)


def environment(arithmetic: str, device: torch.device) -> dict[str, str | int]:
    """Environment that affects bit-exact results.

    The processor is its architecture and the instructions in use; with native arithmetic also its
    name, by which the libraries choose among their algorithms.
    """
    cpu = torch.cpu.get_capabilities()
    processor = f"{cpu['architecture']} {torch.backends.cpu.get_cpu_capability()}"
    version = str(torch.__version__)
    if device.type == "cpu":
        version = version.partition("+")[0]  # 2.15.0+cu132 computes as 2.15.0+cpu does
    gpu: dict[str, str | int] = {}
    if device.type == "cuda":
        gpus = 1 if world_size() > 1 else torch.cuda.device_count()  # each rank has its own
        gpu = {"gpu": torch.cuda.get_device_name(device), "gpus": gpus}
    return {
        "torch": version,
        "arithmetic": arithmetic,
        "processor": processor if arithmetic == "portable" else f"{processor}, {cpu['cpu_name']}",
        "device": device.type,
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        **gpu,
    }
