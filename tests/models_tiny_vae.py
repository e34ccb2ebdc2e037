"""The smallest autoencoder of three levels, for the tests of several rooms."""

from __future__ import annotations

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


def tiny_vae() -> AutoencoderKL:
    """Random weights; a latent is 4 px wide."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,  # type: ignore[arg-type]
        up_block_types=("UpDecoderBlock2D",) * 3,  # type: ignore[arg-type]
        block_out_channels=(8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
    )
