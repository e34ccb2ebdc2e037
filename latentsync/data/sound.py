"""The sound of one prepared clip, as mel columns around a moment."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.mel import LogMel
from latentsync.data.augmentation import SILENT_COLUMN, Voice

EDGE = 2  # columns beyond either end that still reach into the sound
AS_RECORDED = Voice()


class ClipSound:
    """Log-mel of a clip, computed once."""

    def __init__(self, waveform: np.ndarray) -> None:
        source = LogMel(ArrayWaveform(waveform))
        self.mel = source.read(-EDGE, source.columns + EDGE)  # (80, EDGE + columns + EDGE)

    def columns(self, first: int, rows: int, margin: int, voice: Voice = AS_RECORDED) -> torch.Tensor:
        """Columns of `rows` rows (50 Hz) from `first` on, and of `margin` more on either side, in another voice.

        returns: (80, 2 * rows + 4 * margin); silence outside the clip
        """
        start, stop = 2 * (first - margin) + EDGE, 2 * (first + rows + margin) + EDGE
        inside = voice(self.mel[:, max(0, start) : max(0, min(stop, self.mel.shape[1]))])
        before = max(0, -start)
        return F.pad(inside, (before, stop - start - before - inside.shape[1]), value=SILENT_COLUMN)
