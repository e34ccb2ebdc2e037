"""StableSyncNet as the critic of stage 6, and the choice of the critic."""

from __future__ import annotations

import numpy as np

from latentsync.audio.features import ArrayWaveform
from latentsync.data.preparation.resample import TICK_SAMPLES
from latentsync.data.preparation.sync import LipLevelCritic, Spoken, SyncCritic, SyncScore
from latentsync.data.sync_scores import shift_scores
from latentsync.data.sync_vectors import StableVectors
from latentsync.hub import load_stable_syncnet
from latentsync.models.stable_syncnet import StableSyncNet
from latentsync.types import WINDOW_FRAMES, CheckpointError

WINDOW_STEP = 8  # frames from one window to the next


def choose_critic(name: str | None) -> SyncCritic:
    """The StableSyncNet of that name or path; without one the simple estimate. CheckpointError where there is none."""
    return StableSyncNetCritic(load_stable_syncnet(name)) if name else LipLevelCritic()


class StableSyncNetCritic:
    """Cosine of sound and picture, averaged over the clip's windows, at every shift, as SyncNet's offset and confidence
    are found (Chung and Zisserman 2016): the offset is where it is largest, the confidence how far that lies above the
    median over the shifts, in [0, 1]."""

    def __init__(self, network: StableSyncNet) -> None:
        """CheckpointError for a network that does not take the pixels of 16 RGB frames."""
        seen = network.input
        if seen.space != "pixel" or seen.frames != WINDOW_FRAMES:
            raise CheckpointError(
                f"the sync critic looks at {seen.frames} frames of {seen.space}s, not at {WINDOW_FRAMES} of pixels: "
                "give a StableSyncNet that was trained on those"
            )
        self._vectors = StableVectors(network)

    def score(self, spoken: Spoken, reach: int) -> SyncScore:
        """See SyncCritic. Offsets are whole frames."""
        windows = np.arange(0, len(spoken.crops) - WINDOW_FRAMES + 1, WINDOW_STEP)
        shifts = np.arange(-reach, reach + 1)
        first = spoken.start - reach  # tick that moments of the sound count from
        seen = self._vectors.seen(spoken.crops, WINDOW_STEP)
        heard = self._vectors.heard(_sound_from(spoken, first, reach), int(windows[-1]) + 2 * reach + 1)
        cosines = shift_scores(seen, heard, reach, at=windows + reach)
        at = first + windows[:, None] + reach + shifts
        inside = (at >= 0) & (at <= len(spoken.waveform) // TICK_SAMPLES - WINDOW_FRAMES)
        tried = inside.any(axis=0)
        fits = np.where(inside, cosines, 0).sum(axis=0)[tried] / inside.sum(axis=0)[tried]
        best = int(fits.argmax())
        return SyncScore(float(shifts[tried][best]), float(fits[best] - np.median(fits)))


def _sound_from(spoken: Spoken, first: int, reach: int) -> np.ndarray:
    """(samples,) of the clip and of `reach` ticks more at either end; zeros outside the video's sound."""
    stop = spoken.start + len(spoken.crops) + reach
    return ArrayWaveform(spoken.waveform).read(first * TICK_SAMPLES, (stop + 1) * TICK_SAMPLES)
