"""Does the mouth belong to the sound: the loss that StableSyncNet learns by, and the one it then teaches with.

LatentSync, arXiv 2412.09262, section 3.4: binary cross-entropy of the cosine of both vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange

from latentsync.models.stable_syncnet import StableSyncNet, lower_half

EDGE = 1e-6  # the gradient of the cross-entropy has no bound where the cosine reaches 0 or 1


def cosines(visual: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
    """visual, audio: (b, d) of length 1 without negative entries -> (b,) float32 in [0, 1]."""
    return (visual.float() * audio.float()).sum(dim=1)


def cosine_bce(visual: torch.Tensor, audio: torch.Tensor, match: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of BCE(cos(v, a), y).

    visual, audio: (b, d) of length 1 without negative entries; match: (b,) 1 = same moment, 0 = another
    """
    return likely_bce(cosines(visual, audio), match)


def likely_bce(likely: torch.Tensor, match: torch.Tensor) -> torch.Tensor:
    """`cosine_bce` of the cosines (b,) themselves."""
    likely = likely.float().clamp(EDGE, 1 - EDGE)
    with torch.autocast(likely.device.type, enabled=False):  # autocast refuses it, and half precision has no such edge
        return F.binary_cross_entropy(likely, match.float())


def pixel_sync_loss(critic: StableSyncNet, pixel_values: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    """How little a pixel critic believes decoded frames: BCE(cos(v, a), 1), with gradients to the frames.

    critic: frozen; pixel_values: (b, f, 3, h, w) whole crops of any size, about [-1, 1], f as the critic's;
    mel: (b, 1, 80, 52) from `windows.syncnet_start` of the first frame on
    """
    assert critic.input.space == "pixel" and pixel_values.shape[1] == critic.input.frames, pixel_values.shape
    return _agreement_loss(critic, pixel_values, mel)


def latent_sync_loss(critic: StableSyncNet, latents: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    """As `pixel_sync_loss`, for a critic of latents: nothing has to be decoded.

    latents: (b, 4, f, h, w) scaled, of whole crops of the size that the critic was trained on
    """
    assert critic.input.space == "latent" and latents.shape[2] == critic.input.frames, latents.shape
    return _agreement_loss(critic, rearrange(latents, "b c f h w -> b f c h w"), mel)


def _agreement_loss(critic: StableSyncNet, shown: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    assert not any(parameter.requires_grad for parameter in critic.parameters()), "the critic is not frozen"
    visual, audio = critic(lower_half(shown, critic.input), mel)
    return cosine_bce(visual, audio, torch.ones(len(visual), device=visual.device))
