"""The frozen critics that a configuration's weights ask for, loaded and checked against what is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from omegaconf import DictConfig

from latentsync.hub import load_stable_syncnet, load_unisync
from latentsync.hub.videomae import load_video_features
from latentsync.losses.perceptual import Lpips, load_lpips
from latentsync.losses.sync import latent_sync_loss, pixel_sync_loss
from latentsync.losses.unisync import unisync_pixel_loss
from latentsync.losses.weighted_sum import WeightedSum
from latentsync.models.unisync import FRAMES
from latentsync.models.videomae import VideoFeatures
from latentsync.training.unet.pixel_losses import Critics, SyncCritic, SyncLoss
from latentsync.types import InputError

SYNC_CRITICS = ("stable_syncnet", "unisync")
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def load_critics(config: DictConfig, weights: WeightedSum, latent_size: int) -> Critics:
    """Those whose weight is above 0. latent_size: places along a side of the latents.

    InputError says what to give for a critic that is wanted and not named, or does not fit.
    """
    losses = config.losses
    sync = None
    if weights.wants("sync"):
        sync = _sync(config.sync_critic, losses.sync_critic, config.windows.frames, latent_size)
    perceptual: Lpips | None = None
    if weights.wants("perceptual"):
        perceptual = load_lpips(losses.perceptual_backbone, losses.perceptual_heads)
    trepa = _trepa(losses.trepa_critic, config.windows.frames) if weights.wants("trepa") else None
    return Critics(sync, perceptual, trepa, HALF.get(config.run.precision))


def _sync(kind: str, name: str | None, frames: int, latent_size: int) -> SyncCritic:
    if kind not in SYNC_CRITICS:
        raise InputError(f"sync_critic is {kind!r}: choose one of {', '.join(SYNC_CRITICS)}")
    if name is None:
        raise InputError(
            f"the sync loss needs a critic: give losses.sync_critic, weights of a {kind} (train/{kind}.py makes one), "
            "or set weights.sync=0"
        )
    return _unisync(name, frames) if kind == "unisync" else _stable_syncnet(name, frames, latent_size)


def _stable_syncnet(name: str, frames: int, latent_size: int) -> SyncCritic:
    critic = load_stable_syncnet(name).requires_grad_(False)
    looks_at = critic.input
    if looks_at.frames != frames or (looks_at.space == "latent" and looks_at.size != latent_size):
        raise InputError(
            f"the critic {name} looks at {looks_at.frames} frames ({looks_at.space}, {looks_at.size} a side), and "
            f"windows have {frames} frames with latents of {latent_size} a side: train one that fits"
        )
    one = pixel_sync_loss if looks_at.space == "pixel" else latent_sync_loss
    return SyncCritic(_one_by_one(lambda shown, mel: one(critic, shown, mel)), critic, looks_at.space)


def _unisync(name: str, frames: int) -> SyncCritic:
    critic = load_unisync(name).requires_grad_(False)
    kinds = critic.visual.kind, critic.audio.kind
    if kinds != ("rgb", "mel"):
        raise InputError(
            f"the critic {name} looks at {kinds[0]} and listens to {kinds[1]}, and decoded frames can only be judged "
            "by one of rgb and mel: train it with visual.kind=rgb audio.kind=mel"
        )
    if frames < FRAMES:
        raise InputError(f"windows.frames is {frames}, and the critic {name} looks at {FRAMES}: give as many or more")
    each = _one_by_one(lambda shown, mel: unisync_pixel_loss(critic, shown, mel)[0])
    return SyncCritic(each, critic, "pixel")


def _one_by_one(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> SyncLoss:
    """loss: of a single window and its mel, () -> of any number of them, (b,)."""

    def each(shown: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        return torch.stack([loss(window, sound) for window, sound in zip(shown.split(1), mel.split(1), strict=True)])

    return each


def _trepa(name: str | None, frames: int) -> VideoFeatures:
    if name is None:
        raise InputError(
            "TREPA needs a video network: give losses.trepa_critic, a VideoMAE by name or path (train/videomae.py "
            "makes a small one), or set weights.trepa=0"
        )
    critic = load_video_features(name)
    if critic.frames != frames:
        raise InputError(
            f"TREPA's network {name} looks at {critic.frames} frames and windows.frames is {frames}: set "
            f"windows.frames={critic.frames}, or give another losses.trepa_critic"
        )
    return critic
