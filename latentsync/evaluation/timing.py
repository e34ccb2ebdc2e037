"""Where the speech of a file lies, heard or seen, against the speech that was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentsync.evaluation.articulation import MIN_FRAMES
from latentsync.types import AUDIO_SAMPLE_RATE

MOST_OFFSET = 15  # frames to either side in which a mouth is looked for, as the field's sync critics do
COMPARED_SECONDS = 60.0  # from the start; an offset does not change later, and a long file costs no more


@dataclass(frozen=True)
class Offset:
    """The shift at which two recordings agree best."""

    seconds: float  # positive: the file speaks later than the given audio
    agreement: float  # correlation coefficient at that shift, in [-1, 1]; near 1 for the same recording


def offset_between(waveform: np.ndarray, given: np.ndarray) -> Offset:
    """Cross-correlate two 16 kHz waveforms (samples,), to a whole sample; ValueError where one is silent or empty."""
    from scipy.signal import correlate, correlation_lags

    tracks = [np.asarray(track, np.float64) for track in (waveform, given)]
    if any(track.size == 0 or not track.any() for track in tracks):
        raise ValueError("an audio offset needs two tracks that are neither empty nor silent")
    products = correlate(*tracks, mode="full", method="fft")
    best = int(products.argmax())
    lag = int(correlation_lags(len(tracks[0]), len(tracks[1]))[best])
    return Offset(lag / AUDIO_SAMPLE_RATE, _agreement(tracks[0], tracks[1], lag))


def compared(waveform: np.ndarray) -> np.ndarray:
    """The first COMPARED_SECONDS of (samples,) at 16 kHz."""
    return waveform[: round(COMPARED_SECONDS * AUDIO_SAMPLE_RATE)]


def _agreement(waveform: np.ndarray, given: np.ndarray, lag: int) -> float:
    """Correlation coefficient of the samples that overlap once `waveform` is moved `lag` samples earlier."""
    moved, kept = waveform[max(lag, 0) :], given[max(-lag, 0) :]
    frames = min(len(moved), len(kept))
    moved, kept = moved[:frames], kept[:frames]
    norm = np.sqrt((moved @ moved) * (kept @ kept))
    return float(moved @ kept / norm) if norm > 0 else 0.0


def audio_offset(written: Path | str, given: Path | str) -> Offset:
    """Offset of the first COMPARED_SECONDS of a file's audio against the audio it was given."""
    from latentsync.media.audio import read_waveform

    tracks = []
    for path in (written, given):
        with read_waveform(path, COMPARED_SECONDS) as waveform:
            tracks.append(waveform.read(0, len(waveform)))
    return offset_between(*tracks)


def mouth_offset(found: np.ndarray, wanted: np.ndarray, fps: float) -> Offset:
    """Where lip gaps `found` (f,) agree best with `wanted` (f,), both on one clock of `fps`; nan where nothing does.

    Pearson correlation over the frames that overlap and are finite, at whole frames up to MOST_OFFSET to either side;
    a parabola through the best shift and its neighbours gives the part of a frame.
    """
    shifts = np.arange(-MOST_OFFSET, MOST_OFFSET + 1)
    agreement = np.array([_gap_agreement(found, wanted, shift) for shift in shifts])
    if not np.isfinite(agreement).any():
        return Offset(float("nan"), float("nan"))
    best = int(np.nanargmax(agreement))
    return Offset(float(shifts[best] + _peak(agreement[max(best - 1, 0) : best + 2])) / fps, float(agreement[best]))


def _gap_agreement(found: np.ndarray, wanted: np.ndarray, shift: int) -> float:
    """Correlation of `found` moved `shift` frames earlier with `wanted`; nan where too little is left."""
    moved, kept = found[max(shift, 0) :], wanted[max(-shift, 0) :]
    frames = min(len(moved), len(kept))
    moved, kept = moved[:frames], kept[:frames]
    known = np.isfinite(moved) & np.isfinite(kept)
    if known.sum() < MIN_FRAMES or np.ptp(moved[known]) == 0 or np.ptp(kept[known]) == 0:
        return float("nan")
    return float(np.corrcoef(moved[known], kept[known])[0, 1])


def _peak(values: np.ndarray) -> float:
    """Place of the top of a parabola through three values, from the middle one; 0 at an end."""
    if len(values) < 3 or not np.isfinite(values).all():
        return 0.0
    left, middle, right = values
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend < 0 else 0.0
