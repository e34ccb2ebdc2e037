"""What the runs that a benchmark made wrote into their `metrics.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 2  # updates that are not counted: the first ones also load, choose and allocate


def _lines(folder: Path, mark: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in entries if mark in entry]


def updates(folder: Path) -> list[dict[str, Any]]:
    """One entry a line of the log of updates, in order."""
    return _lines(folder, "loss")


def validations(folder: Path, figure: str) -> list[dict[str, Any]]:
    """One entry a validation that has this figure, in order."""
    return _lines(folder, f"validation/{figure}")


def speeds(folder: Path) -> dict[str, float]:
    """Medians over the updates after the first WARM_UP, and the peak memory; run with `run.log_every=1`."""
    counted = updates(folder)[WARM_UP:]
    medians = {name: float(np.median([e[name] for e in counted])) for name in ("samples_per_second", "data_share")}
    return {**medians, "memory_gib": max(entry["memory_gib"] for entry in counted)}


def smoothed(values: list[float], width: int) -> tuple[list[int], list[float]]:
    """Means of `width` neighbours each, and how many values end there."""
    ends = [min(first + width, len(values)) for first in range(0, len(values), width)]
    return ends, [float(np.mean(values[max(0, end - width) : end])) for end in ends]
