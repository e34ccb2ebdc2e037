"""The autoencoders' one convention of shapes, scale and shift, against direct calls of diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from latentsync.models import autoencoder


def kl(levels: int, **changes) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
        latent_channels=4,
        **changes,
    ).eval()


def tiny(levels: int) -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * levels,
        decoder_block_out_channels=(8,) * levels,
        num_encoder_blocks=(1,) * levels,
        num_decoder_blocks=(1,) * levels,
        scaling_factor=0.5,
        shift_factor=0.1,
    ).eval()


PIXELS = torch.rand(2, 3, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1  # (b, f, c, h, w)


@pytest.mark.parametrize("vae", [kl(3), kl(4, scaling_factor=0.7, shift_factor=0.3), tiny(3), tiny(2)])
@torch.no_grad()
def test_latents_are_those_of_each_frame_scaled(vae):
    latents = autoencoder.encode(vae, PIXELS)
    size = autoencoder.scale(vae)
    assert latents.shape == (2, 4, 3, 16 // size, 24 // size)
    alone = vae.encode(PIXELS[1, 2:3])
    raw = alone.latents if isinstance(vae, AutoencoderTiny) else alone.latent_dist.mean
    shift = vae.config.shift_factor or 0.0
    torch.testing.assert_close(latents[1, :, 2], ((raw - shift) * vae.config.scaling_factor)[0], atol=1e-5, rtol=1e-5)
    pixels = autoencoder.decode(vae, latents)
    assert pixels.shape == PIXELS.shape
    torch.testing.assert_close(pixels[1, 2], vae.decode(raw).sample[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_encoding_repeats_itself():
    vae = kl(2)
    assert torch.equal(autoencoder.encode(vae, PIXELS), autoencoder.encode(vae, PIXELS))


@torch.no_grad()
def test_half_precision_networks_take_full_precision_pixels():
    vae = tiny(2)
    exact = autoencoder.decode(vae, autoencoder.encode(vae, PIXELS))
    vae = vae.to(torch.bfloat16)
    rough = autoencoder.decode(vae, autoencoder.encode(vae, PIXELS))
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)
