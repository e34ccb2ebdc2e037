"""The report's picture: why clips fell, and the histograms that thresholds are chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentsync.data.manifest import ManifestEntry

SIZE = (15.0, 8.0)  # inches
DOTS = 100  # an inch
BINS = 24
MOST_REASONS = 12  # bars; the most frequent ones
KEPT, DROPPED = "#2f6db3", "#d98c3f"


def draw_report(
    path: Path,
    reasons: Sequence[tuple[str, int]],
    entries: Sequence[ManifestEntry],
    dropped: Sequence[Mapping[str, float]],
    limits: Mapping[str, float],
) -> None:
    """Write a PNG. reasons: (stage and reason, how many fell); dropped: what was measured of those that fell, if
    anything; limits: the thresholds of confidence and quality."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    grid = figure.add_gridspec(2, 6)
    _draw_reasons(figure.add_subplot(grid[0, :4]), reasons, len(entries))
    lengths = [entry.end - entry.start for entry in entries]
    _histogram(figure.add_subplot(grid[0, 4:]), "length of the clips, s", lengths, [])
    panels = (
        ("offset", "sound too late by, frames"),
        ("confidence", "confidence of the offset"),
        ("quality", "quality"),
    )
    for column, (name, label) in enumerate(panels):
        kept = [entry.av_offset if name == "offset" else getattr(entry, name) for entry in entries]
        fell = [values[name] for values in dropped if name in values]
        _histogram(figure.add_subplot(grid[1, 2 * column : 2 * column + 2]), label, kept, fell, limits.get(name))
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")


def _draw_reasons(axes: Any, reasons: Sequence[tuple[str, int]], kept: int) -> None:
    """Bars: what fell at each stage, in the order of the stages, and the clips that are left."""
    shown = sorted(reasons, key=lambda reason: -reason[1])[:MOST_REASONS]
    rows = [*(row for row in reasons if row in shown), ("clips that are left", kept)]
    names, numbers = [name for name, _ in rows], [number for _, number in rows]
    bars = axes.barh(names, numbers, color=[*[DROPPED] * (len(rows) - 1), KEPT])
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_title("videos, scenes and segments that fell at each stage")


def _histogram(axes: Any, label: str, kept: Sequence[float], fell: Sequence[float], limit: float | None = None) -> None:
    """Kept and dropped clips, one on top of the other; a line at the threshold."""
    values = np.array([*kept, *fell])
    if len(values):
        low, high = float(values.min()), float(values.max())
        pad = 0.0 if high > low else max(abs(low) * 0.1, 0.5)
        bins = np.linspace(low - pad, high + pad, BINS + 1)
        axes.hist([kept, fell], bins, stacked=True, color=[KEPT, DROPPED], label=["kept", "dropped"])
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "nothing came so far", ha="center", transform=axes.transAxes)
    if limit is not None:
        axes.axvline(limit, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel(label)
    axes.set_ylabel("clips")
