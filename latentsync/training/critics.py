"""The frozen critics that a configuration's weights ask for, loaded and checked against what is trained."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from latentsync.hub import load_stable_syncnet
from latentsync.hub.videomae import load_video_features
from latentsync.losses.perceptual import Lpips, load_lpips
from latentsync.losses.sync import latent_sync_loss, pixel_sync_loss
from latentsync.losses.weighted_sum import WeightedSum
from latentsync.models.videomae import VideoFeatures
from latentsync.training.pixel_losses import Critics, SyncCritic
from latentsync.types import InputError

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def load_critics(config: DictConfig, weights: WeightedSum, latent_size: int) -> Critics:
    """Those whose weight is above 0. latent_size: places along a side of the latents.

    InputError says what to give for a critic that is wanted and not named, or does not fit.
    """
    losses = config.losses
    sync = _sync(losses.sync_critic, config.windows.frames, latent_size) if weights.wants("sync") else None
    perceptual: Lpips | None = None
    if weights.wants("perceptual"):
        perceptual = load_lpips(losses.perceptual_backbone, losses.perceptual_heads)
    trepa = _trepa(losses.trepa_critic, config.run.precision) if weights.wants("trepa") else None
    return Critics(sync, perceptual, trepa)


def _sync(name: str | None, frames: int, latent_size: int) -> SyncCritic:
    if name is None:
        raise InputError(
            "the sync loss needs a critic: give losses.sync_critic, a StableSyncNet (train/stable_syncnet.py makes "
            "one), or set weights.sync=0"
        )
    critic = load_stable_syncnet(name).requires_grad_(False)
    looks_at = critic.input
    if looks_at.frames != frames or (looks_at.space == "latent" and looks_at.size != latent_size):
        raise InputError(
            f"the critic {name} looks at {looks_at.frames} frames ({looks_at.space}, {looks_at.size} a side), and "
            f"windows have {frames} frames with latents of {latent_size} a side: train one that fits"
        )
    one = pixel_sync_loss if looks_at.space == "pixel" else latent_sync_loss

    def each(shown: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        pairs = zip(shown.split(1), mel.split(1), strict=True)
        return torch.stack([one(critic, window, sound) for window, sound in pairs])

    return SyncCritic(each, critic, looks_at.space)


def _trepa(name: str | None, precision: str) -> VideoFeatures:
    if name is None:
        raise InputError(
            "TREPA needs a video network: give losses.trepa_critic, a VideoMAE by name or path (train/videomae.py "
            "makes a small one), or set weights.trepa=0"
        )
    features = load_video_features(name)
    return features.to(HALF[precision]) if precision in HALF else features
