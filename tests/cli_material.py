"""A checkpoint folder of tiny random networks, and a drawn face that speaks: what the command's tests dub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from models_tiny_vae import tiny_vae

from latentsync.audio.mel_encoder import MelEncoder
from latentsync.data.synthetic import SyntheticSpeaker, synthesize_speech, write_clip
from latentsync.hub import Settings, save_folder
from latentsync.media.audio import write_wav
from latentsync.models.unet import LatentSyncUNet
from latentsync.types import AUDIO_SAMPLE_RATE

RESOLUTION = 32  # pixels; latents are 8x8
SIZE = 192  # pixels of the drawn clip


def write_tiny_checkpoint(folder: Path) -> Path:
    """Random weights of the product's own classes, one denoising step: fast, and no good to look at."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = MelEncoder(width=8, levels=1, hidden=16)
        unet = LatentSyncUNet(
            block_out_channels=(32, 32),
            down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion"),
            layers_per_block=1,
            cross_attention_dim=8,
            num_attention_heads=2,
            motion_num_attention_heads=2,
        )
        vae = tiny_vae()
    settings = Settings(
        resolution=RESOLUTION, defaults={"num_inference_steps": 1, "guidance_scale": 1.0, "scheduler": "ddim"}
    )
    return save_folder(folder, unet=unet, vae=vae, audio_encoder=encoder, settings=settings)


def write_talking_clip(path: Path, seconds: float = 1.2) -> Path:
    """A drawn face that the detector finds in every frame, with its own voice."""
    speech = synthesize_speech(3, seconds=seconds)
    frames = SyntheticSpeaker(4, SIZE).frames(speech, 5)
    write_clip(path, frames, waveform=speech.waveform)
    return path


def write_faceless_clip(path: Path, frames: int = 10) -> Path:
    """A picture of nothing."""
    x = np.linspace(40, 210, SIZE, dtype=np.uint8)
    write_clip(path, [np.repeat(np.tile(x, (SIZE, 1))[..., None], 3, axis=2)] * frames)
    return path


def write_tone(path: Path, seconds: float = 1.2) -> Path:
    """Sound that goes on and off three times a second."""
    times = np.arange(round(seconds * AUDIO_SAMPLE_RATE)) / AUDIO_SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * 180 * times) * (np.sin(2 * np.pi * 3 * times) > 0)
    write_wav(path, tone.astype(np.float32), AUDIO_SAMPLE_RATE)
    return path
