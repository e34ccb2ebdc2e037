"""What a dub cost, from the report that dubbing wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentsync.evaluation.registry import REPORT, Figure, Figures, Missing, all_missing
from latentsync.types import InputError

WANTED = ("frames_out", "fps", "total_seconds", "seconds")


def read_report(path: Path) -> dict[str, Any]:
    """What `latentsync dub --report` wrote. InputError where a file is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the dubbing report '{path}' cannot be read ({error}); give one of dub --report") from error
    missing = [key for key in WANTED if not isinstance(content, dict) or key not in content]
    if missing:
        raise InputError(f"'{path}' is no dubbing report: it has no {missing[0]}; give one of latentsync dub --report")
    return content


def measure(report: dict[str, Any] | None) -> Figures:
    """All figures of the family. report: of `read_report`."""
    if report is None:
        return all_missing("cost", f"give {REPORT}")
    return {
        "cost_seconds": report["total_seconds"] / _seconds(report),
        "peak_memory_mib": _noted(report, "peak_memory_mib", "the system did not tell"),
        "peak_device_memory_mib": _noted(report, "peak_device_memory_mib", "dubbed without a CUDA card"),
    }


def stages(report: dict[str, Any]) -> dict[str, float]:
    """Seconds a second of video by stage; they run side by side, so their sum may exceed `cost_seconds`."""
    length = _seconds(report)
    return {stage: spent / length for stage, spent in report["seconds"].items()}


def _seconds(report: dict[str, Any]) -> float:
    """Length of the dubbed video."""
    return max(report["frames_out"], 1) / (report["fps"] or 1.0)


def _noted(report: dict[str, Any], key: str, otherwise: str) -> Figure:
    value = report.get(key)
    return Missing(otherwise) if value is None else float(value)
