"""What recipes share beside the runner: learning-rate curve, saving, and one voice where many processes run."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from diffusers import ModelMixin


def cosine_rate(steps: int, warmup: int, floor: float = 0.02) -> Callable[[int], float]:
    """Factor of the learning rate: linear rise over `warmup` steps, then half a cosine down to `floor`."""

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return rate


def is_main_process() -> bool:
    """Whether this is the process that speaks and writes for all; also before Accelerate has been set up."""
    return int(os.environ.get("RANK", "0")) == 0


def launched_processes() -> int:
    """How many processes were launched to work together; also before Accelerate has been set up."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def warn_user(told: str) -> None:
    """A UserWarning, on the main process only: the others would say the same."""
    if is_main_process():
        warnings.warn(told, UserWarning, stacklevel=3)


def save_module(module: ModelMixin, folder: Path) -> None:
    """Write a diffusers module as config.json and safetensors; a reader never sees a half-written file."""
    partial = folder.with_name(f".{folder.name}.partial")
    module.save_pretrained(partial)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(partial.iterdir()):
        file.replace(folder / file.name)
    partial.rmdir()
