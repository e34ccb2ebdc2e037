"""StableSyncNet as the critic of stage 6, and the choice of the critic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.mel import syncnet_mel
from latentsync.audio.windows import SYNCNET_COLUMNS, syncnet_start
from latentsync.data.preparation.resample import TICK_SAMPLES
from latentsync.data.preparation.sync import LipLevelCritic, Spoken, SyncCritic, SyncScore
from latentsync.data.sampling import pixels
from latentsync.hub import load_stable_syncnet
from latentsync.models.stable_syncnet import StableSyncNet, lower_half
from latentsync.types import MODEL_FPS, WINDOW_FRAMES, CheckpointError

WINDOW_STEP = 8  # frames from one window to the next
BATCH = 16  # windows at once


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
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.eval().to(self._device)

    def score(self, spoken: Spoken, reach: int) -> SyncScore:
        """See SyncCritic. Offsets are whole frames."""
        windows = np.arange(0, len(spoken.crops) - WINDOW_FRAMES + 1, WINDOW_STEP)
        shifts = np.arange(-reach, reach + 1)
        first = spoken.start - reach  # tick that moments count from
        moments = np.unique(windows[:, None] + reach + shifts)
        seen, heard = self._seen(spoken.crops, windows), self._heard(_mel_from(spoken, first, reach), moments)
        at = windows + reach + shifts[:, None]  # (shifts, windows)
        cosines = (seen * heard[np.searchsorted(moments, at)]).sum(axis=2)
        last = len(spoken.waveform) // TICK_SAMPLES - WINDOW_FRAMES
        inside = (first + at >= 0) & (first + at <= last)
        tried = inside.any(axis=1)
        fits = np.where(inside, cosines, 0).sum(axis=1)[tried] / inside.sum(axis=1)[tried]
        best = int(fits.argmax())
        return SyncScore(float(shifts[tried][best]), float(fits[best] - np.median(fits)))

    @torch.no_grad()
    def _seen(self, crops: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """(windows, d) what the network makes of 16 frames from each of `windows` on."""
        answers = []
        for batch in _batches(windows):
            images = pixels(np.stack([crops[at : at + WINDOW_FRAMES] for at in batch])).to(self._device)
            answers.append(self._network.visual_encoder(lower_half(images, self._network.input)).cpu().numpy())
        return np.concatenate(answers)

    @torch.no_grad()
    def _heard(self, mel: torch.Tensor, moments: np.ndarray) -> np.ndarray:
        """(moments, d) what it makes of the sound from each of `moments` on; mel: (80, columns) from moment 0 on."""
        answers = []
        for batch in _batches(moments):
            columns = [syncnet_start(at / MODEL_FPS) for at in batch]
            cut = torch.stack([mel[None, :, column : column + SYNCNET_COLUMNS] for column in columns]).to(self._device)
            answers.append(self._network.audio_encoder(cut).cpu().numpy())
        return np.concatenate(answers)


def _batches(starts: np.ndarray) -> Iterator[np.ndarray]:
    yield from np.array_split(starts, -(-len(starts) // BATCH))


def _mel_from(spoken: Spoken, first: int, reach: int) -> torch.Tensor:
    """(80, columns) of the clip's sound and of `reach` ticks more at either end; zeros outside the video's sound."""
    stop = spoken.start + len(spoken.crops) + reach
    return syncnet_mel(ArrayWaveform(spoken.waveform).read(first * TICK_SAMPLES, (stop + 1) * TICK_SAMPLES))
