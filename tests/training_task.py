"""The smallest task that uses everything the runner offers: dropout, two rates, bad samples, losses that fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from latentsync.training.loop.runner import BadSample, Report, RunConfig, run

WIDTH = 6


class Killed(Exception):
    """Stands for the end of the process."""


class LineTask:
    """Regression of a fixed linear map; sample i is a function of (seed, i)."""

    def __init__(self, dropout: float = 0.2, kill_at: int = -1, bad: Sequence[int] = (), nan_at: Sequence[int] = ()):
        torch.manual_seed(1)
        self.module = torch.nn.Sequential()
        self.module.add_module("first", torch.nn.Linear(WIDTH, 8))
        self.module.add_module("dropout", torch.nn.Dropout(dropout))
        self.module.add_module("last", torch.nn.Linear(8, 1))
        self.rates = {"last": 0.5}
        self.kill_at, self.bad, self.nan_at = kill_at, bad, nan_at

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Inputs and the answer."""
        for index in indices:
            if index in self.bad:
                raise BadSample(f"clip_{index}", "it is torn")
        inputs = np.stack([np.random.default_rng((3, index)).standard_normal(WIDTH) for index in indices])
        return {"index": torch.tensor(list(indices)), "inputs": torch.from_numpy(inputs).float()}

    def losses(self, module: torch.nn.Module, batch: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        """Two losses, so that there is a ledger."""
        if step == self.kill_at:
            raise Killed
        found = module(batch["inputs"])[:, 0]
        loss = (found - batch["inputs"].sum(1)).square().mean()
        return {"fit": loss * (float("nan") if step in self.nan_at else 1.0), "size": 0.01 * found.square().mean()}

    def validate(self, module: torch.nn.Module) -> Report:
        """A figure, a picture and a video; it also uses up random numbers that training must not miss."""
        torch.rand(5)
        shade = np.full((4, 16, 16, 3), 128, np.uint8)
        figure = float(module(torch.ones(1, WIDTH)))
        return Report({"at_one": figure}, {"grey": shade[0]}, {"still": shade})

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """The averaged weights."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(module.state_dict(), folder / "weights.safetensors")


OPTIONS = {
    "steps": 7, "batch": 8, "learning_rate": 0.05, "seed": 4, "gradient_accumulation": 2, "warmup": 3,
    "schedule": "cosine", "ema_decay": 0.7, "save_every": 2, "validate_every": 3,
}  # fmt: skip


def options(**changes) -> RunConfig:
    """A run with everything that has state."""
    return RunConfig(**{**OPTIONS, **changes})


def lines(folder: Path) -> list[dict[str, float]]:
    """What the run noted, without what hangs on the machine's speed."""
    machine = ("data_share", "samples_per_second", "memory_gib")
    noted = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key not in machine} for entry in noted]


def in_processes(folder: str, kill_at: int) -> None:
    """What each of several processes runs; they were forked from one that may have trained alone."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    run(LineTask(kill_at=kill_at), options(), Path(folder))
