"""TREPA: generated clips should look to a video network as the real ones do (LatentSync, arXiv 2412.09262, 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange

from latentsync.models.videomae import VideoFeatures
from latentsync.types import InputError


def trepa_loss(critic: VideoFeatures, generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the L2-normalised vectors of both clips: (b,), gradients to `generated`.

    critic: frozen; generated, real: (b, f, 3, h, w) pixel_values, about [-1, 1], f as the critic's
    InputError when the critic wants another number of frames.
    """
    if generated.shape[1] != critic.frames:
        raise InputError(
            f"TREPA's network looks at {critic.frames} frames and windows have {generated.shape[1]}: train with "
            f"windows.frames={critic.frames} or give another network"
        )
    with torch.no_grad():
        wanted = _vectors(critic, real)
    return (_vectors(critic, generated) - wanted).square().mean(dim=1)


def _vectors(critic: VideoFeatures, pixel_values: torch.Tensor) -> torch.Tensor:
    """(b, d) of length 1. The published loss resizes without antialiasing and takes [0, 1] as it is."""
    flat = rearrange(pixel_values, "b f c h w -> (b f) c h w")
    resized = F.interpolate(flat, (critic.size, critic.size), mode="bicubic")
    videos = rearrange((resized / 2 + 0.5).clamp(0, 1), "(b f) c h w -> b f c h w", b=len(pixel_values))
    return F.normalize(critic(videos).float(), dim=1)
