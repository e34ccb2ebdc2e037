"""The sound of one prepared clip, as mel columns around a moment, louder or softer by a random gain."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.mel import LOG_MEL_CENTRE, LOG_MEL_FLOOR, LOG_MEL_SPAN, LogMel

GAIN_RANGE = (-12.0, 6.0)  # dB: recordings differ in level, and the encoder has no level control
DB_PER_UNIT = 10.0 * LOG_MEL_SPAN  # a gain of 10 dB is 1 in log10 power
EDGE = 2  # columns beyond either end that still reach into the sound
SILENT_COLUMN = (LOG_MEL_FLOOR - LOG_MEL_CENTRE) / LOG_MEL_SPAN


class ClipSound:
    """Log-mel of a clip, computed once."""

    def __init__(self, waveform: np.ndarray) -> None:
        source = LogMel(ArrayWaveform(waveform))
        self.mel = source.read(-EDGE, source.columns + EDGE)  # (80, EDGE + columns + EDGE)

    @staticmethod
    def random_gain(rng: np.random.Generator) -> float:
        """A gain in dB."""
        return float(rng.uniform(*GAIN_RANGE))

    def columns(self, first: int, rows: int, margin: int, gain: float) -> torch.Tensor:
        """Columns of `rows` rows (50 Hz) from `first` on, and of `margin` more on either side, `gain` dB louder.

        returns: (80, 2 * rows + 4 * margin); silence outside the clip
        """
        start, stop = 2 * (first - margin) + EDGE, 2 * (first + rows + margin) + EDGE
        inside = self.mel[:, max(0, start) : max(0, min(stop, self.mel.shape[1]))]
        louder = (inside + gain / DB_PER_UNIT).clamp(min=SILENT_COLUMN)
        before = max(0, -start)
        return F.pad(louder, (before, stop - start - before - louder.shape[1]), value=SILENT_COLUMN)
