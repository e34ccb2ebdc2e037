"""Pixels <-> latents with diffusers' autoencoders, `AutoencoderKL` or `AutoencoderTiny`; frozen everywhere."""

from __future__ import annotations

from typing import TypeAlias

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from einops import rearrange

Autoencoder: TypeAlias = "AutoencoderKL | AutoencoderTiny"


def scale(vae: Autoencoder) -> int:
    """Pixels along one side of a latent: 8 for the published autoencoder."""
    levels = "num_encoder_blocks" if isinstance(vae, AutoencoderTiny) else "block_out_channels"
    return 2 ** (len(vae.config[levels]) - 1)


def encode(vae: Autoencoder, pixel_values: torch.Tensor) -> torch.Tensor:
    """pixel_values: (b, f, 3, h, w), [-1, 1] -> (b, 4, f, h/s, w/s), scaled to unit spread.

    The mode of the posterior, not a sample of it: the same pixels give the same latents.
    """
    images = rearrange(pixel_values, "b f c h w -> (b f) c h w").to(vae.dtype)
    encoded = vae.encode(images, return_dict=False)[0]  # latents, or their distribution
    latents = encoded if isinstance(encoded, torch.Tensor) else encoded.mode()
    factor, shift = _scaling(vae)
    return rearrange((latents - shift) * factor, "(b f) c h w -> b c f h w", b=pixel_values.shape[0])


def decode(vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    """latents: (b, 4, f, h/s, w/s), scaled -> pixel_values (b, f, 3, h, w), about [-1, 1]."""
    factor, shift = _scaling(vae)
    raw = rearrange(latents.to(vae.dtype) / factor + shift, "b c f h w -> (b f) c h w")
    images = vae.decode(raw, return_dict=False)[0]  # type: ignore[arg-type]
    return rearrange(images, "(b f) c h w -> b f c h w", b=latents.shape[0])


def _scaling(vae: Autoencoder) -> tuple[float, float]:
    return vae.config["scaling_factor"], vae.config["shift_factor"] or 0.0
