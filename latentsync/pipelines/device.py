"""Which device and which precision a job runs with."""

from __future__ import annotations

import torch

from latentsync.models.precision import computes_in_bf16
from latentsync.types import InputError

DEVICES = ("cuda", "mps", "cpu")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _available(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    return kind == "cpu" or (kind == "mps" and torch.backends.mps.is_available())


def choose_device(name: str | None = None) -> torch.device:
    """`name` (`cuda`, `cuda:1`, `mps`, `cpu`), or the fastest that is there when it is None or `auto`.

    raises: InputError for a device that this machine does not have
    """
    if name in (None, "auto"):
        return torch.device(next(kind for kind in DEVICES if _available(kind)))
    kind, _, index = str(name).partition(":")
    if kind not in DEVICES or not (index == "" or index.isdecimal()):
        raise InputError(f"There is no device '{name}'; choose one of auto, {', '.join(DEVICES)}.")
    if not _available(kind) or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise InputError(f"The device '{name}' is not available here; leave the choice out or take cpu.")
    return torch.device(str(name))


def choose_dtype(device: torch.device, name: str | torch.dtype | None = None) -> torch.dtype:
    """`name` (`fp32`, `bf16`, `fp16`), or what suits the device when it is None or `auto`.

    Automatic: bf16 on CUDA and on the CPU where they compute in it, else fp16 on CUDA and fp32 on the CPU; fp16 on MPS.
    raises: InputError for an unknown name
    """
    if isinstance(name, torch.dtype):
        return name
    if name not in (None, "auto"):
        if name not in PRECISIONS:
            raise InputError(f"There is no precision '{name}'; choose one of auto, {', '.join(PRECISIONS)}.")
        return PRECISIONS[name]
    if computes_in_bf16(device):
        return torch.bfloat16
    return torch.float32 if device.type == "cpu" else torch.float16


def precision_name(dtype: torch.dtype) -> str:
    """`fp32`, `bf16` or `fp16`."""
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def set_attention(unet: torch.nn.Module, attention: str) -> None:
    """Choose the attention kernel: torch's own (`sdpa`) or `xformers`.

    raises: InputError for an unknown name, and where xformers is not installed or cannot run here
    """
    if attention == "sdpa":
        return
    if attention != "xformers":
        raise InputError(f"There is no attention '{attention}'; choose sdpa or xformers.")
    try:
        unet.enable_xformers_memory_efficient_attention()  # type: ignore[operator]
    except (ImportError, ValueError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"Attention xformers cannot be used here ({reason}); install latentsync[xformers] on a machine with CUDA, "
            "or leave the choice at sdpa."
        ) from error
