"""Talks in memory whose lips open as the sound is loud, and a critic whose answer about them is exactly known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from data_talkers import mesh
from numpy.lib.stride_tricks import sliding_window_view

from latentsync.evaluation.sync.critic import PICTURE_SAMPLES, Talk
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.faces.lips import lip_gap

SIDE = 96  # px of the pictures


def talk(seed: int, frames: int = 60, speaker: str = "") -> Talk:
    """Brightness of the pictures, gap of the lips and log loudness of the sound are one random curve in [0, 1]."""
    rng = np.random.default_rng(seed)
    curve = rng.random(frames)
    level = np.repeat(10 ** (2 * curve - 2), PICTURE_SAMPLES)
    waveform = (level * rng.choice([-1.0, 1.0], level.shape)).astype(np.float32)

    def pictures() -> Iterator[np.ndarray]:
        return (np.full((SIDE, SIDE, 3), round(40 + 200 * value), np.uint8) for value in curve)

    def crops(resolution: int) -> Iterator[np.ndarray]:
        return (np.full((resolution, resolution, 3), round(40 + 200 * value), np.uint8) for value in curve)

    landmarks = np.stack([mesh(value) for value in curve])
    return Talk(f"talk_{seed}", landmarks, waveform, pictures, crops, speaker=speaker)


def unit(windows: np.ndarray) -> np.ndarray:
    """Curves (n, frames) about their means, of length 1; zeros where nothing moves."""
    centred = windows - windows.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)


class GapAndLevel(VectorCritic):
    """Correlation of the lip gap with the log loudness, over windows of `frames`: 1 for what belongs together."""

    name = "gap and level"

    def __init__(self, frames: int = 5) -> None:
        super().__init__()
        self.frames = frames
        self.looked = 0  # times that pictures were looked at

    def seen(self, talk: Talk) -> np.ndarray:
        self.looked += 1
        return unit(sliding_window_view(np.array([lip_gap(points) for points in talk.landmarks]), self.frames))

    def heard(self, talk: Talk) -> np.ndarray:
        power = np.square(talk.waveform.astype(np.float64)).reshape(-1, PICTURE_SAMPLES).mean(axis=1)
        return unit(sliding_window_view(np.log10(np.maximum(power, 1e-6)), self.frames))
