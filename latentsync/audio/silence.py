"""Where somebody speaks, by level: a gain in [0, 1] per video time, so that the mouth closes in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from latentsync.audio.features import WaveformSource
from latentsync.types import AUDIO_SAMPLE_RATE

HOP = AUDIO_SAMPLE_RATE // 100  # samples, 10 ms
FRAME = 2 * HOP  # samples, 20 ms: two pitch periods of a low voice
SCAN_FRAMES = 1000  # frames of level computed at once, 10 s

FLOOR_DBFS = -55.0  # below this it is silence whatever the rest of the track is like
OPEN_DB = -20.0  # speech begins at this level relative to the track's speech level
CLOSE_DB = -25.0  # and lasts until the level is under this one
ACTIVE_DB = -10.0  # frames down to here below the speech level count towards it (ITU-R BS.1770's relative gate)

LOOKAHEAD_MS = 120.0  # fully open before the first loud frame: lips part before they are heard
ATTACK_MS = 80.0  # from closed to fully open
HOLD_MS = 160.0  # fully open after the last loud frame: weak word ends, the closure of a plosive
RELEASE_MS = 120.0  # from fully open to closed
CLICK_MS = 80.0  # a sound this short that stands alone is no speech

_HISTOGRAM_EDGES = np.arange(-100.0, 10.5, 0.5)  # dBFS


class SilenceGate:
    """Voice activity of a whole source by level with hysteresis; afterwards any time can be asked for.

    The threshold follows the track's own speech level, so that a noise floor 30 dB under it is silence; noise or music
    closer than 25 dB under speech keeps the gate open. Two streaming passes; kept are only the spans of speech.
    """

    def __init__(self, source: WaveformSource):
        self.speech_dbfs = _speech_level(source)
        self._starts, self._stops = _without_clicks(*_loud_spans(source, self.speech_dbfs))

    def gains(self, times: Sequence[float]) -> np.ndarray:
        """times: (f,) seconds -> (f,) float32: 1 in speech, 0 in silence and past the end, ramps between."""
        at = np.asarray(times, dtype=np.float64)
        if not len(self._starts):
            return np.zeros(len(at), dtype=np.float32)
        following = np.searchsorted(self._starts, at, side="right")
        before = np.where(following > 0, at - self._stops[following - 1], np.inf)
        ahead = np.where(following < len(self._starts), self._starts[following % len(self._starts)] - at, np.inf)
        released = 1.0 - (before * 1000.0 - HOLD_MS) / RELEASE_MS
        attacked = 1.0 - (ahead * 1000.0 - LOOKAHEAD_MS) / ATTACK_MS
        return np.clip(np.maximum(released, attacked), 0.0, 1.0).astype(np.float32)


def _levels(source: WaveformSource) -> Iterator[np.ndarray]:
    """Level in dBFS of the 20 ms around every multiple of 10 ms, without its mean (a constant is no sound)."""
    frames = -(-len(source) // HOP)
    for first in range(0, frames, SCAN_FRAMES):
        last = min(first + SCAN_FRAMES, frames)
        samples = source.read(first * HOP - FRAME // 2, (last - 1) * HOP + FRAME // 2)
        windows = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
        yield 10.0 * np.log10(np.maximum(windows.var(axis=1), 1e-10))


def _speech_level(source: WaveformSource) -> float:
    """Mean power in dBFS of the frames that are at most 10 dB under that mean; -inf when all is under the floor."""
    counts = np.zeros(len(_HISTOGRAM_EDGES) - 1)
    for levels in _levels(source):
        counts += np.histogram(levels, _HISTOGRAM_EDGES)[0]
    centres = (_HISTOGRAM_EDGES[:-1] + _HISTOGRAM_EDGES[1:]) / 2
    power, threshold, level = 10.0 ** (centres / 10.0), FLOOR_DBFS, -np.inf
    while (active := np.where(centres >= threshold, counts, 0.0)).any():
        level = 10.0 * float(np.log10((active * power).sum() / active.sum()))
        if level + ACTIVE_DB <= threshold:
            break
        threshold = level + ACTIVE_DB
    return level


def _loud_spans(source: WaveformSource, speech_dbfs: float) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops in seconds, rising, of the stretches between opening and closing."""
    opening, closing = (max(FLOOR_DBFS, speech_dbfs + relative) for relative in (OPEN_DB, CLOSE_DB))
    starts: list[float] = []
    stops: list[float] = []
    speaking, frame = False, 0
    for levels in _levels(source):
        for level in levels:
            if speaking != (level >= (closing if speaking else opening)):
                speaking = not speaking
                (starts if speaking else stops).append(frame * HOP / AUDIO_SAMPLE_RATE)
            frame += 1
    if speaking:
        stops.append(len(source) / AUDIO_SAMPLE_RATE)
    return np.array(starts), np.array(stops)


def _without_clicks(starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the spans between which the gate would not begin to close, then leave out what is too short for speech."""
    if not len(starts):
        return starts, stops
    apart = (starts[1:] - stops[:-1]) * 1000.0 > HOLD_MS + LOOKAHEAD_MS
    starts, stops = starts[np.append(True, apart)], stops[np.append(apart, True)]
    spoken = (stops - starts) * 1000.0 > CLICK_MS
    return starts[spoken], stops[spoken]
