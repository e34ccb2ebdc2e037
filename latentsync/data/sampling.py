"""Which frames and windows a training step sees: every sample is a function of (seed, index)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from latentsync.data.augmentation import Look
from latentsync.data.crops import ClipCrops

REFERENCE_DISTANCE = 16  # frames between an edited frame and its reference, at least
CONTEXT_DISTANCE = 8  # frames between a window and the moment that lends it its surroundings, at least
CONTEXT_TRIES = 6  # moments looked at; the one whose surroundings look most alike is taken
CHANGED_LOOKS = 0.7  # of the autoencoder's pictures, so that it knows more skins, lights and cameras than were recorded


class NamedClip(Protocol):
    """What the share of a clip is reckoned from."""

    @property
    def name(self) -> str:
        """Its source up to the first underscore."""
        ...

    @property
    def usable(self) -> np.ndarray:
        """(f,) bool: frames with a face."""
        ...


def sample_generator(seed: int, index: int) -> np.random.Generator:
    """The random numbers of one sample, the same on any number of workers."""
    return np.random.default_rng((seed, index))


def pixels(crops: np.ndarray) -> torch.Tensor:
    """uint8 crops (..., h, w, 3) -> float32 (..., 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(crops, -1, -3))).float() / 127.5 - 1


def group_of(name: str) -> str:
    """Clips of one source share a name up to the first underscore; single-word names (GRID sentences) are one group."""
    return name.split("_")[0] if "_" in name else "grid"


def clip_weights(clips: Sequence[NamedClip], shares: dict[str, float]) -> np.ndarray:
    """(clips,) probabilities. A group in `shares` gets that share, spread by frames; the others split the rest."""
    frames = np.array([float(clip.usable.sum()) ** 0.5 for clip in clips])
    groups = [group_of(clip.name) if group_of(clip.name) in shares else "" for clip in clips]
    rest = 1 - sum(shares[name] for name in set(groups) if name)
    weights = np.zeros(len(clips))
    for name in set(groups):
        members = np.array([group == name for group in groups])
        weights[members] = (shares[name] if name else rest) * frames[members] / frames[members].sum()
    return weights / weights.sum()


def draw_moments(starts: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """First frames of a window and of its reference, at least 16 frames apart where the clip has such."""
    start = int(rng.choice(starts))
    distances = np.abs(starts - start)
    far = starts[distances >= REFERENCE_DISTANCE]
    return start, int(rng.choice(far)) if len(far) else int(starts[distances.argmax()])


def alike_moment(masked: torch.Tensor, starts: np.ndarray, start: int, rng: np.random.Generator) -> int:
    """First frame of another moment with surroundings of the mouth like those at `start`, so that the pose is alike.

    masked: (c, f, h, w) latents of the clip with the mouth hidden; starts: (n,) first frames to choose from
    """
    elsewhere = starts[np.abs(starts - start) >= CONTEXT_DISTANCE]
    if not len(elsewhere):
        return start
    tried = rng.choice(elsewhere, min(CONTEXT_TRIES, len(elsewhere)), replace=False)
    difference = (masked[:, tried].float() - masked[:, [start]].float()).square().mean(dim=(0, 2, 3))
    return int(tried[int(difference.argmin())])


class FrameSampler:
    """Single frames for the autoencoder."""

    def __init__(self, clips: list[ClipCrops], shares: dict[str, float], seed: int) -> None:
        self.clips, self.seed = clips, seed
        self.weights = clip_weights(clips, shares)
        self.usable = [np.flatnonzero(clip.usable) for clip in clips]

    def images(self, step: int, batch: int) -> torch.Tensor:
        """(batch, 3, h, w) in [-1, 1], most of them with another look."""
        rng = sample_generator(self.seed, step)
        chosen = rng.choice(len(self.clips), batch, p=self.weights)
        frames = [self._frame(self.clips[c].crops, self.usable[c], rng) for c in chosen]
        return pixels(np.concatenate(frames))

    @staticmethod
    def _frame(crops: np.ndarray, usable: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        frame = crops[rng.choice(usable)][None]
        return Look.random(rng, frame.shape[1])(frame) if rng.random() < CHANGED_LOOKS else frame
