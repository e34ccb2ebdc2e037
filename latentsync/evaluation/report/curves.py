"""Pictures of one dub's figures over time: lip gaps over the waveform, and where each critic heard the sound."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from latentsync.evaluation.evaluate import DUB, NOTHING, Measured
from latentsync.evaluation.families.sync import TITLES
from latentsync.evaluation.sync.critic import MAX_SHIFT
from latentsync.types import AUDIO_SAMPLE_RATE

WIDTH, HEIGHT, DOTS = 11.0, 3.2, 90  # inches, inches, dots an inch
SECONDS_SHOWN = 20.0  # more would be a hedge
ENVELOPE_SAMPLES = AUDIO_SAMPLE_RATE // 100  # of one column of the waveform
MADE, RIGHT, SOURCE, SOUND, QUIET = "#c2410c", "#15803d", "#94a3b8", "#cbd5e1", "#fef9c3"


def draw_gaps(one: Measured, worst: Mapping[int, str]) -> bytes:
    """A PNG: lip gaps of the dub, of the right mouth where one is known and of the source, over the loudness; pauses
    are shaded, `worst` ticks marked."""
    take = one.takes[DUB]
    figure, axes = _figure()
    seconds = min(SECONDS_SHOWN, float(take.times[-1]) if len(take.times) else 0.0)
    behind = axes.twinx()
    _shade(behind, take.times, ~take.spoken() & take.heard())
    _sound(behind, take.waveform, seconds)
    axes.set_zorder(1)
    axes.patch.set_visible(False)
    wanted = take.gaps_of(take.speaker)
    source = take.gaps_of(take.source) if NOTHING in one.takes else None
    for gaps, colour, label, width in (
        (source, SOURCE, "source", 1.2),
        (wanted, RIGHT, "right mouth", 1.6),
        (take.gaps, MADE, "dub", 1.6),
    ):
        if gaps is not None and not (label == "source" and take.speaker == take.source):
            axes.plot(take.times, 100 * gaps, color=colour, linewidth=width, label=label)
    for number, tick in enumerate(sorted(worst), 1):
        axes.axvline(take.times[tick], color="black", linewidth=0.8, linestyle=":")
        axes.text(take.times[tick], 0.97, f" {number}", transform=axes.get_xaxis_transform(), va="top", fontsize=8)
    axes.set_xlim(0, seconds)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("lip gap, % of the face")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, ncols=3, fontsize=8)
    return _png(figure)


def draw_offsets(offsets: Mapping[str, np.ndarray]) -> bytes | None:
    """A PNG: how often each critic heard the sound at which shift; None without critics."""
    if not offsets:
        return None
    figure, axes = _figure(WIDTH / 2)
    edges = np.arange(-MAX_SHIFT - 0.5, MAX_SHIFT + 1)
    names = [TITLES[name] for name in offsets]
    axes.hist(list(offsets.values()), edges, label=names)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("sound too late by, frames")
    axes.set_ylabel("windows")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _figure(width: float = WIDTH) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, HEIGHT), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    """Without matplotlib's name and version, so that the same figures give the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _sound(axes: Any, waveform: np.ndarray, seconds: float) -> None:
    """The waveform's envelope behind the curves."""
    columns = int(min(seconds * AUDIO_SAMPLE_RATE, len(waveform))) // ENVELOPE_SAMPLES
    if columns:
        blocks = np.abs(waveform[: columns * ENVELOPE_SAMPLES]).reshape(columns, -1).max(axis=1)
        times = (np.arange(columns) + 0.5) * ENVELOPE_SAMPLES / AUDIO_SAMPLE_RATE
        axes.fill_between(times, -blocks, blocks, color=SOUND, linewidth=0)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])


def _shade(axes: Any, times: np.ndarray, quiet: np.ndarray) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    for first, last in edges.reshape(-1, 2):
        axes.axvspan(times[first], times[min(last, len(times) - 1)], color=QUIET, zorder=0, linewidth=0)
