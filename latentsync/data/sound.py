"""The sound of one prepared clip, as mel columns around a moment: for a mel encoder, and for sync networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.mel import LogMel, syncnet_columns, syncnet_length
from latentsync.data.arrays import Array, stored_array
from latentsync.data.augmentation import SILENT_COLUMN, Voice

EDGE = 2  # columns beyond either end that still reach into the sound
AS_RECORDED = Voice()


class ClipSound:
    """Log-mel of a clip, computed once."""

    def __init__(self, waveform: Array) -> None:
        source = LogMel(ArrayWaveform(np.asarray(waveform)))
        self.mel = source.read(-EDGE, source.columns + EDGE)  # (80, EDGE + columns + EDGE)

    def columns(self, first: int, rows: int, margin: int, voice: Voice = AS_RECORDED) -> torch.Tensor:
        """Columns of `rows` rows (50 Hz) from `first` on, and of `margin` more on either side, in another voice.

        returns: (80, 2 * rows + 4 * margin); silence outside the clip
        """
        start, stop = 2 * (first - margin) + EDGE, 2 * (first + rows + margin) + EDGE
        inside = voice(self.mel[:, max(0, start) : max(0, min(stop, self.mel.shape[1]))])
        before = max(0, -start)
        return F.pad(inside, (before, stop - start - before - inside.shape[1]), value=SILENT_COLUMN)


@dataclass(frozen=True)
class SyncSound:
    """What sync networks hear of a clip: read where it was prepared, else computed for each window."""

    waveform: Array  # (samples,) float32, 16 kHz
    mel: Path | None = None  # .npy file of its `audio.mel.syncnet_mel`, (80, columns) float32

    def columns(self, first: int, count: int) -> torch.Tensor:
        """(80, count): the columns of `syncnet_mel` from `first` on, which may be outside the clip."""
        if self.mel is None or first < 0 or first + count > syncnet_length(self.waveform):
            return syncnet_columns(np.asarray(self.waveform), first, count)
        return torch.from_numpy(stored_array(self.mel)[:, first : first + count])
