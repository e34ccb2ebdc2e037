"""Noise with a part that the frames share (PYoCo, Ge et al. 2023, arXiv 2305.10474, equation 4)."""

from __future__ import annotations

import hashlib
import math

import torch

DEFAULT_ALPHA = 1.0  # the published training's
_SEED_BYTES = 7  # 56 bits: positive in every generator


def _shares(alpha: float) -> tuple[float, float]:
    """Standard deviations of the shared and of the independent part; their squares sum to 1."""
    return math.sqrt(alpha**2 / (1 + alpha**2)), math.sqrt(1 / (1 + alpha**2))


def mixed_noise(
    shape: tuple[int, int, int, int, int],
    generator: torch.Generator,
    alpha: float = DEFAULT_ALPHA,
) -> torch.Tensor:
    """Training noise: one part shared by the frames of a clip, one independent for each frame.

    shape: (b, c, f, h, w)
    generator: its device is the noise's device
    alpha: weight of the shared part; 0 makes all frames independent
    returns: (b, c, f, h, w) float32, unit variance
    """
    b, c, _, h, w = shape
    shared_std, independent_std = _shares(alpha)
    shared = torch.randn((b, c, 1, h, w), generator=generator, device=generator.device)
    independent = torch.randn(shape, generator=generator, device=generator.device)
    return shared_std * shared + independent_std * independent


def _randn_of(identity: tuple[object, ...], shape: tuple[int, ...]) -> torch.Tensor:
    """Normal numbers that depend on `identity` alone; drawn on the CPU, so that every device starts from the same."""
    digest = hashlib.blake2b(repr(identity).encode(), digest_size=_SEED_BYTES).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    return torch.randn(shape, generator=generator)


def frame_noise(
    seed: int, track: int, frame: int, shape: tuple[int, int, int], alpha: float = DEFAULT_ALPHA
) -> torch.Tensor:
    """Sampling noise of one frame: a function of (seed, track, frame), with a part per (seed, track) that frames share.

    A frame that stands in two overlapping windows starts from the same noise in both, whatever the windows are.

    shape: (c, h, w) of the latents
    returns: (c, h, w) float32 on the CPU, unit variance
    """
    shared_std, independent_std = _shares(alpha)
    shared = _randn_of(("shared", seed, track), shape)
    return shared_std * shared + independent_std * _randn_of(("frame", seed, track, frame), shape)
