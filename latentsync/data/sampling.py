"""Which frames and windows a training step sees: every sample is a function of (seed, index)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from latentsync.data.arrays import StoredTensor
from latentsync.data.augmentation import Look
from latentsync.data.crops import ClipCrops
from latentsync.types import InputError

REFERENCE_DISTANCE = 16  # frames between an edited frame and its reference, at least
CONTEXT_DISTANCE = 8  # frames between a window and the moment that lends it its surroundings, at least
CONTEXT_TRIES = 6  # moments looked at; the one whose surroundings look most alike is taken
SLACK = 1e-6  # above the rounding of sums of shares
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


def other_looks(clip: ClipCrops, count: int, seed: int) -> list[Look]:
    """`count` looks for a clip, the same for every clip of its name: what is encoded once cannot change every time."""
    names = [f"{clip.name}~{number}" for number in range(1, count + 1)]
    return [Look.random(sample_generator(seed, zlib.crc32(name.encode())), clip.crops.shape[1]) for name in names]


def pixels(crops: np.ndarray) -> torch.Tensor:
    """uint8 crops (..., h, w, 3) -> float32 (..., 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(crops, -1, -3))).float() / 127.5 - 1


def group_of(name: str) -> str:
    """Clips of one source share a name up to the first underscore; single-word names (GRID sentences) are one group."""
    return name.split("_")[0] if "_" in name else "grid"


def clip_weights(clips: Sequence[NamedClip], shares: dict[str, float]) -> np.ndarray:
    """(clips,) probabilities. A group in `shares` gets that share, spread by frames; the others split the rest.

    InputError for shares that there cannot be.
    """
    if min(shares.values(), default=0) < 0 or sum(shares.values()) > 1 + SLACK:
        told = ", ".join(f"{name}: {share:g}" for name, share in shares.items())
        raise InputError(f"data.shares is {{{told}}}: give shares of at least 0 that add up to 1 or less")
    frames = np.array([float(clip.usable.sum()) ** 0.5 for clip in clips])
    groups = [group_of(clip.name) if group_of(clip.name) in shares else "" for clip in clips]
    rest = max(0.0, 1 - sum(shares[name] for name in set(groups) if name))
    weights = np.zeros(len(clips))
    for name in set(groups):
        members = np.array([group == name for group in groups])
        weights[members] = (shares[name] if name else rest) * frames[members] / frames[members].sum()
    if not weights.any():
        raise InputError("data.shares leaves no share for any of the clips that are there: change it")
    return weights / weights.sum()


def draw_moments(starts: np.ndarray, frames: int, rng: np.random.Generator) -> tuple[int, int]:
    """First frames of a window and of its reference, at least 16 frames apart where the clip has such; of longer
    windows as many as they have, so that they share none.

    starts: (n,) first frames to choose from, in order
    """
    apart = max(REFERENCE_DISTANCE, frames)
    reach = np.maximum(starts - starts[0], starts[-1] - starts)  # the farthest that a reference can be from each
    start = int(rng.choice(starts[reach >= min(apart, reach.max())]))
    distances = np.abs(starts - start)
    far = starts[distances >= apart]
    return start, int(rng.choice(far)) if len(far) else int(starts[distances.argmax()])


def alike_moment(masked: torch.Tensor | StoredTensor, starts: np.ndarray, start: int, rng: np.random.Generator) -> int:
    """First frame of another moment with surroundings of the mouth like those at `start`, so that the pose is alike.

    masked: (c, f, h, w) latents of the clip with the mouth hidden; starts: (n,) first frames to choose from
    """
    elsewhere = starts[np.abs(starts - start) >= CONTEXT_DISTANCE]
    if not len(elsewhere):
        return start
    tried = rng.choice(elsewhere, min(CONTEXT_TRIES, len(elsewhere)), replace=False)
    looked_at = torch.stack([masked[:, int(frame)].float() for frame in (*tried, start)], dim=1)
    difference = (looked_at[:, :-1] - looked_at[:, -1:]).square().mean(dim=(0, 2, 3))
    return int(tried[int(difference.argmin())])


class FrameSampler:
    """Single frames for the autoencoder."""

    def __init__(self, clips: Sequence[ClipCrops], shares: dict[str, float]) -> None:
        """shares: see `clip_weights`."""
        self.clips = clips
        self.weights = clip_weights(clips, shares)
        self.usable = [np.flatnonzero(clip.usable) for clip in clips]

    def image(self, rng: np.random.Generator) -> torch.Tensor:
        """(3, h, w) in [-1, 1], most often with another look."""
        chosen = int(rng.choice(len(self.clips), p=self.weights))
        frame = self.clips[chosen].crops[rng.choice(self.usable[chosen])][None]
        return pixels(Look.random(rng, frame.shape[1])(frame) if rng.random() < CHANGED_LOOKS else frame)[0]
