"""The smallest networks that the pipeline takes, with random weights: for what does not hang on how good a mouth is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common

NAME = "smallest"
TOKEN_WIDTH = 16
RESOLUTION = 64  # px


def checkpoint_path(name: str) -> str:
    """What `DubbingPipeline.from_pretrained` takes for a checkpoint's name; `smallest` is made if it is missing."""
    return str(smallest_checkpoint()) if name == NAME else name


def smallest_checkpoint() -> Path:
    """A checkpoint folder, made once."""
    path = common.WORK / NAME
    if path.is_dir():
        return path
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from latentsync.audio.mel_encoder import MelEncoder
    from latentsync.hub import Settings, save_folder
    from latentsync.models.unet import LatentSyncUNet

    torch.manual_seed(0)
    unet = LatentSyncUNet(
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        motion_norm_num_groups=8,
        cross_attention_dim=TOKEN_WIDTH,
        num_attention_heads=2,
        motion_num_attention_heads=2,
    )
    shape: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (8, 8, 8),
        "norm_num_groups": 4,
    }
    vae = AutoencoderKL(latent_channels=4, **shape)
    encoder = MelEncoder(width=TOKEN_WIDTH, levels=2, hidden=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_folder(path, unet=unet, vae=vae, audio_encoder=encoder, settings=Settings(resolution=RESOLUTION))
