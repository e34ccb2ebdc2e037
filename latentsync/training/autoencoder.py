"""Train a small AutoencoderKL on face crops: the first stage of the embedded model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from latentsync.data.crops import ClipCrops
from latentsync.data.sampling import FrameSampler
from latentsync.faces.masks import inpaint_mask
from latentsync.training.runtime import cosine_rate, save_module

MOUTH_WEIGHT = 2.0  # added to the loss where the mask regenerates; the rest of the crop is pasted from the source
GRADIENT_WEIGHT = 1.0
KL_WEIGHT = 1e-6


@dataclass(frozen=True)
class AutoencoderRecipe:
    """What a run does; `resolution` is that of the crops."""

    resolution: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    norm_groups: int
    steps: int
    batch: int
    learning_rate: float
    seed: int


def build(recipe: AutoencoderRecipe) -> AutoencoderKL:
    """A new autoencoder: 4 latent channels, one halving a level after the first."""
    levels = len(recipe.block_out_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,  # type: ignore[arg-type]
        up_block_types=("UpDecoderBlock2D",) * levels,  # type: ignore[arg-type]
        block_out_channels=recipe.block_out_channels,  # type: ignore[arg-type]
        layers_per_block=recipe.layers_per_block,
        norm_num_groups=recipe.norm_groups,
        sample_size=recipe.resolution,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def _gradients(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return images.diff(dim=-1), images.diff(dim=-2)


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted L1 + L2 of pixels and L1 of their differences.

    output, target: (b, 3, h, w) in [-1, 1]; weight: (h, w)
    """
    error = output - target
    pixel = (weight * (error.abs() + error.square())).mean()
    edges = [(weight[: dx.shape[-2], : dx.shape[-1]] * dx.abs()).mean() for dx in _gradients(error)]
    return pixel + GRADIENT_WEIGHT * (edges[0] + edges[1])


def mouth_psnr(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> float:
    """PSNR in dB inside the mask. output, target: (b, 3, h, w) in [-1, 1]; mask: (h, w), 1 inside."""
    squared = (output.clamp(-1, 1) - target).square().mean(dim=1)
    error = (squared * mask).sum() / (mask.sum() * len(output))
    return 10 * math.log10(4 / error.item())


@torch.no_grad()
def validate(vae: AutoencoderKL, images: torch.Tensor, mask: torch.Tensor) -> float:
    """Mouth-region PSNR of the posterior's mode over `images` (n, 3, h, w)."""
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [vae(chunk, sample_posterior=False).sample.float() for chunk in images.split(32)]
    return mouth_psnr(torch.cat(outputs), images, mask)


@torch.no_grad()
def measure_scaling(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """1 / standard deviation of the latents, so that scaled latents have unit variance."""
    return float(1 / vae.encode(images).latent_dist.mode().std())  # type: ignore[union-attr]


def train(
    recipe: AutoencoderRecipe,
    clips: list[ClipCrops],
    held_out: dict[str, torch.Tensor],
    shares: dict[str, float],
    folder: Path,
    log: Callable[[str], None],
    start: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Train from scratch or from `start`, write `folder` (diffusers layout) every 100 steps, and return the network.

    held_out: named sets of images (n, 3, h, w) in [-1, 1] whose mouth-region PSNR is logged
    shares: see `sampling.clip_weights`
    """
    torch.manual_seed(recipe.seed)
    vae = (start or build(recipe)).to(memory_format=torch.channels_last)  # type: ignore[call-arg]
    mask = torch.from_numpy(inpaint_mask(recipe.resolution).copy())
    weight = 1 + MOUTH_WEIGHT * mask
    sampler = FrameSampler(clips, shares, recipe.seed)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine_rate(recipe.steps, warmup=50))
    started, losses = time.monotonic(), []
    for step in range(recipe.steps):
        images = sampler.images(step, recipe.batch).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(images).latent_dist
            output = vae.decode(posterior.sample()).sample
        loss = reconstruction_loss(output.float(), images, weight) + KL_WEIGHT * posterior.kl().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            figures = {name: round(validate(vae, images, mask), 2) for name, images in held_out.items()}
            elapsed = time.monotonic() - started
            log(f"step {step + 1} loss {np.mean(losses[-100:]):.4f} psnr {figures} {elapsed:.0f} s")
            vae.register_to_config(scaling_factor=measure_scaling(vae, images))
            save_module(vae, folder)
    return vae
