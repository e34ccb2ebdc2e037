"""An evaluation as plain values. The same files give the same bytes: no clock, no place of a file, one order."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from latentsync.evaluation.evaluate import ROWS, Evaluation, Measured
from latentsync.evaluation.items import FILES
from latentsync.evaluation.registry import METRICS, Figures, Missing
from latentsync.types import MODEL_FPS

FORMAT, VERSION = "latentsync evaluation", 1
DIGITS = 6  # significant ones: below them two machines differ


def content(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured; a figure is a number, or missing with what to give so that it is not."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "frames_a_second": MODEL_FPS,
        "metrics": [asdict(metric) for metric in METRICS],
        "instruments": dict(evaluation.instruments.files),
        "trained_with": sorted(evaluation.instruments.trained_with),
        "summary": [_group(evaluation, group) for group in evaluation.groups],
        "items": [_item(one) for one in evaluation.measured],
        "left_out": dict(evaluation.errors),
    }


def as_json(evaluation: Evaluation) -> str:
    """`content` as text."""
    return json.dumps(content(evaluation), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _group(evaluation: Evaluation, group: tuple[str, str]) -> dict[str, Any]:
    setting, row = group
    figures = {
        key: {name: rounded(value) for name, value in asdict(found).items()}
        for key, found in evaluation.summary(group).items()
        if found.count
    }
    return {"setting": setting, "row": row, "figures": figures, **_missing(evaluation.pooled[group])}


def _item(one: Measured) -> dict[str, Any]:
    files = {name: path.name for name in FILES if (path := getattr(one.item, name)) is not None}
    rows = {row: figures(one.rows[row]) for row in ROWS}
    stages = {stage: rounded(seconds) for stage, seconds in one.stages.items()}
    return {
        "name": one.item.name,
        "setting": one.item.setting,
        "files": files,
        "notes": list(one.notes),
        "rows": rows,
        "seconds_a_second_by_stage": stages,
    }


def figures(found: Figures) -> dict[str, Any]:
    """{figures: {key: number}, missing: {key: reason}}."""
    numbers = {key: rounded(value) for key, value in found.items() if not isinstance(value, Missing)}
    return {"figures": numbers, **_missing(found)}


def _missing(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"missing": {key: value.reason for key, value in found.items() if isinstance(value, Missing)}}


def rounded(value: float) -> float | None:
    """To DIGITS significant digits; None for what is no finite number, which JSON does not know."""
    if not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(f"{value:.{DIGITS}g}") + 0.0  # no minus before a zero
