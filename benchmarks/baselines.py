"""A mouth without pictures to place a dub beside: driven by a small network from mel to lip gap."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from latentsync.audio.mel import SYNCNET_HOP, syncnet_mel
from latentsync.types import AUDIO_SAMPLE_RATE

MEL_RATE = AUDIO_SAMPLE_RATE / SYNCNET_HOP  # 80 columns a second
CONTEXT = np.arange(-20, 21, 2)  # mel columns around a frame: a quarter of a second each way
HIDDEN = (128, 64)
STEPS, BATCH, LEARNING_RATE, DROPOUT = 1500, 256, 1e-3, 0.3


def mel_context(waveform: np.ndarray, times: np.ndarray) -> torch.Tensor:
    """(len(times), features) the mel around each time, clamped to the ends."""
    mel = syncnet_mel(waveform.astype(np.float32))
    columns = np.round(times[:, None] * MEL_RATE).astype(int) + CONTEXT
    return mel[:, np.clip(columns, 0, mel.shape[1] - 1)].permute(1, 0, 2).flatten(1)


class GapRegressor:
    """A perceptron of two hidden layers from mel to lip gap, trained on one speaker for some seconds."""

    def __init__(self, clips: list[tuple[np.ndarray, np.ndarray, np.ndarray]], seed: int = 0) -> None:
        """clips: (waveform (samples,), times (f,) seconds, gaps (f,), nan where there is no face) of the speaker."""
        features = torch.cat([mel_context(waveform, times) for waveform, times, _ in clips])
        gaps = torch.from_numpy(np.concatenate([gaps for *_, gaps in clips])).float()
        known = gaps.isfinite()
        features, gaps = features[known], gaps[known]
        self._mean, self._scale = features.mean(0), features.std(0).clamp(min=1e-3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = self._train((features - self._mean) / self._scale, (gaps - gaps.mean()) / gaps.std())

    @staticmethod
    def _train(features: torch.Tensor, gaps: torch.Tensor) -> nn.Module:
        sizes = (features.shape[1], *HIDDEN)
        hidden = [
            layer
            for wide, narrow in zip(sizes, HIDDEN, strict=False)
            for layer in (nn.Linear(wide, narrow), nn.GELU(), nn.Dropout(DROPOUT))
        ]
        network = nn.Sequential(*hidden, nn.Linear(HIDDEN[-1], 1), nn.Flatten(0))
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
        for _ in range(STEPS):
            batch = torch.randint(len(features), (BATCH,))
            optimizer.zero_grad()
            nn.functional.mse_loss(network(features[batch]), gaps[batch]).backward()
            optimizer.step()
        return network.eval()

    @torch.no_grad()
    def __call__(self, waveform: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(len(times),) gaps in standard deviations of the speaker's."""
        return self._network((mel_context(waveform, times) - self._mean) / self._scale).numpy()
