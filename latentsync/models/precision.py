"""Which devices compute in bfloat16: the others take it too, and are slower with it, CPUs many times over."""

from __future__ import annotations

import torch

CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # what torch calls processors that compute in bf16 (x86, ARM)


def computes_in_bf16(device: torch.device) -> bool:
    """Whether `device` has arithmetic for it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch; without it: no
    return any(capabilities.get(name, False) for name in CPU_BF16)
