"""Where the speech of a file lies, against the speech that was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentsync.types import AUDIO_SAMPLE_RATE

COMPARED_SECONDS = 60.0  # from the start; an offset does not change later, and a long file costs no more


@dataclass(frozen=True)
class AudioOffset:
    """The shift at which two recordings agree best."""

    seconds: float  # positive: the file speaks later than the given audio; whole samples at 16 kHz
    agreement: float  # correlation coefficient at that shift, in [-1, 1]; near 1 for the same recording


def offset_between(waveform: np.ndarray, given: np.ndarray) -> AudioOffset:
    """Cross-correlate two 16 kHz waveforms (samples,); ValueError where one is silent or empty."""
    from scipy.signal import correlate, correlation_lags

    tracks = [np.asarray(track, np.float64) for track in (waveform, given)]
    if any(track.size == 0 or not track.any() for track in tracks):
        raise ValueError("an audio offset needs two tracks that are neither empty nor silent")
    products = correlate(*tracks, mode="full", method="fft")
    best = int(products.argmax())
    lag = int(correlation_lags(len(tracks[0]), len(tracks[1]))[best])
    return AudioOffset(lag / AUDIO_SAMPLE_RATE, _agreement(tracks[0], tracks[1], lag))


def _agreement(waveform: np.ndarray, given: np.ndarray, lag: int) -> float:
    """Correlation coefficient of the samples that overlap once `waveform` is moved `lag` samples earlier."""
    moved, kept = waveform[max(lag, 0) :], given[max(-lag, 0) :]
    frames = min(len(moved), len(kept))
    moved, kept = moved[:frames], kept[:frames]
    norm = np.sqrt((moved @ moved) * (kept @ kept))
    return float(moved @ kept / norm) if norm > 0 else 0.0


def audio_offset(written: Path | str, given: Path | str) -> AudioOffset:
    """Offset of the first COMPARED_SECONDS of a file's audio against the audio it was given."""
    from latentsync.media.audio import read_waveform

    tracks = []
    for path in (written, given):
        with read_waveform(path, COMPARED_SECONDS) as waveform:
            tracks.append(waveform.read(0, len(waveform)))
    return offset_between(*tracks)
