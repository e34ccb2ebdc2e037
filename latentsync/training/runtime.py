"""What recipes share beside the runner: the learning-rate curve, saving a network of diffusers."""

from __future__ import annotations

import math
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


def save_module(module: ModelMixin, folder: Path) -> None:
    """Write a diffusers module as config.json and safetensors; a reader never sees a half-written file."""
    partial = folder.with_name(f".{folder.name}.partial")
    module.save_pretrained(partial)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(partial.iterdir()):
        file.replace(folder / file.name)
    partial.rmdir()
