"""The processor that computes."""

import torch


def this_processor() -> str:
    """Name and widest instructions of the processor, as docs/reliability.md lists them."""
    cpu = torch.cpu.get_capabilities()
    widest = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if cpu.get(name)]
    return f"{cpu['cpu_name']}, {' '.join(widest) or cpu['architecture']}"
