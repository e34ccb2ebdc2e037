"""Tiny networks, critics and clips on disk, and the options of a run that trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from models_tiny_unisync import tiny_unisync
from models_tiny_vae import tiny_vae
from omegaconf import DictConfig
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from latentsync.config import load_config
from latentsync.data.crops import ClipCrops
from latentsync.hub import Settings, save_folder
from latentsync.models.stable_syncnet import StableSyncNet
from latentsync.models.videomae import small_config

RESOLUTION = 32  # px; latents are 8x8
FRAMES = 40
TINY_UNET = (
    "unet.block_out_channels=[16,16]",
    "unet.down_block_types=[DownBlockMotion,CrossAttnDownBlockMotion]",
    "unet.layers_per_block=1",
    "unet.norm_num_groups=8",
    "unet.cross_attention_dim=8",
    "unet.num_attention_heads=2",
    "unet.motion_num_attention_heads=2",
    "unet.motion_norm_num_groups=8",
)
SYNCNET = {
    "visual_encoder": {
        "in_channels": 48, "block_out_channels": [32, 32, 32, 32, 64], "downsample_factors": [[1, 2], 2, 2, 2, 2],
        "attn_blocks": [0] * 5,
    },
    "audio_encoder": {
        "in_channels": 1, "block_out_channels": [32, 32, 32, 32, 32, 64], "downsample_factors": [2, 2, 2, 2, 2, [2, 1]],
        "attn_blocks": [0] * 6,
    },
    "input": {"space": "pixel", "frames": 16, "size": 32},
}  # fmt: skip


def clip(name: str, frames: int = FRAMES, seed: int = 0) -> ClipCrops:
    """Blocks of colour that move, and noise for sound."""
    rng = np.random.default_rng(seed)
    crops = np.kron(rng.integers(0, 255, (frames, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    times = np.arange(frames) / 25
    waveform = (rng.standard_normal(int(16_000 * (frames / 25 + 0.5))) * 0.1).astype(np.float32)
    return ClipCrops(name, crops, np.zeros((frames, 478, 2), np.float32), times, waveform)


def write_clips(folder: Path, names: tuple[str, ...] = ("a_1", "b_1", "c_1")) -> Path:
    """As `data.preparation.continuous` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        made = clip(name, seed=seed)
        np.save(folder / f"{name}.crops.npy", made.crops)
        np.savez(folder / f"{name}.npz", lm=made.landmarks, times=made.times, wav=made.waveform)
    return folder


def write_vae(folder: Path) -> Path:
    """Three levels: a latent is 4 px wide."""
    torch.manual_seed(5)
    vae = tiny_vae()
    vae.save_pretrained(folder)
    return folder


def write_material(folder: Path) -> Path:
    """Clips, an autoencoder and critics, where `options` and `stage2` look for them."""
    write_clips(folder / "crops")
    write_vae(folder / "vae")
    write_critics(folder / "critics")
    return folder


def write_critics(folder: Path) -> tuple[Path, Path]:
    """A StableSyncNet of pixels and a VideoMAE."""
    torch.manual_seed(6)
    sync = save_folder(folder / "sync", stable_syncnet=StableSyncNet(SYNCNET), settings=Settings(resolution=RESOLUTION))
    shape = {**small_config(size=16, patch=8, width=16, layers=1, heads=2)}
    VideoMAEForPreTraining(VideoMAEConfig(**shape)).save_pretrained(folder / "videomae")
    return sync, folder / "videomae"


def write_unisync(folder: Path, **kinds: dict[str, Any]) -> Path:
    """A UniSync; kinds: `visual` and `audio`, see `tiny_unisync`."""
    return save_folder(folder, unisync=tiny_unisync(**kinds), settings=Settings(resolution=RESOLUTION))


def options(folder: Path, *changes: str) -> DictConfig:
    """A stage-1 run of two updates in `folder`/run on the material beside it."""
    return load_config(
        "unet/stage1",
        [
            f"run_folder={folder / 'run'}", f"data.crops={folder / 'crops'}", "data.validation=[c_1]",
            f"vae={folder / 'vae'}", f"resolution={RESOLUTION}", "audio_encoder.mel={width: 8, levels: 2, hidden: 8}",
            "export.dtype=fp32", "export.num_inference_steps=2", "windows.changed_voices=0.5",
            "validation.windows=2", "validation.dubbed=1",
            *TINY_UNET,
            "run.steps=2", "run.batch=2", "run.learning_rate=0.001", "run.precision=no", "run.ema_decay=0.5",
            "run.workers=0", "run.log=off", "run.log_every=1", "run.gradient_checkpointing=false",
            "run.save_every=2", "run.validate_every=100",
            *changes,
        ],
    )  # fmt: skip


def stage2(folder: Path, *changes: str) -> DictConfig:
    """A stage-2 run with the critics of `write_critics`, from new weights unless `start_from` is given."""
    return options(
        folder,
        "unet.temporal=decoder", "trained=motion_modules+attn2", "weights.sync=0.05", "weights.trepa=10",
        f"losses.sync_critic={folder / 'critics' / 'sync'}", f"losses.trepa_critic={folder / 'critics' / 'videomae'}",
        *changes,
    )  # fmt: skip
