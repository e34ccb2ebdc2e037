"""Train a small AutoencoderKL on face crops, the first stage of the embedded model: the task for `training.loop`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from omegaconf import DictConfig

from latentsync.data.arrays import Array
from latentsync.data.crops import ClipCrops
from latentsync.data.sampling import FrameSampler, pixels, sample_generator
from latentsync.faces.masks import inpaint_mask
from latentsync.hub import load_components
from latentsync.models.autoencoder import scale
from latentsync.training.loop.runner import Report
from latentsync.training.loop.runtime import save_module
from latentsync.training.loop.task import Task
from latentsync.training.unet.data import read_clips

MOUTH_WEIGHT = 2.0  # added to the loss where the mask regenerates; the rest of the crop is pasted from the source
GRADIENT_WEIGHT = 1.0
KL_WEIGHT = 1e-6
VALIDATION_FRAMES = 4  # of every held-out clip
AT_ONCE = 32  # images that are validated at once
SCALED_BY = 64  # images to train on whose latents the scaling factor is measured on


class Reconstruction(torch.nn.Module):
    """What is trained: the autoencoder, there and back."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """images: (b, 3, r, r) in [-1, 1]; noise: (b, c, h, w) that latents are drawn by, 0 takes the posterior's mode.

        returns: the images again, and the divergence of each posterior from the normal distribution (b,)
        """
        posterior = self.vae.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist  # type: ignore[union-attr]
        return self.vae.decode(posterior.mean + posterior.std * noise).sample.float(), posterior.kl()  # type: ignore[union-attr]


class AutoencoderTask:
    """What is trained, on what, and what tells how well; see `loop.task.Task`."""

    def __init__(
        self,
        vae: AutoencoderKL,
        training: Sequence[ClipCrops],
        held_out: Sequence[ClipCrops],
        shares: dict[str, float],
        seed: int,
        resolution: int,
    ) -> None:
        """shares: see `sampling.clip_weights`; resolution: px, side of the crops."""
        self.module: torch.nn.Module = Reconstruction(vae.to(memory_format=torch.channels_last))  # type: ignore[call-arg]
        self.sampler, self.seed, self.held_out = FrameSampler(training, shares), seed, held_out
        self.mask = torch.from_numpy(inpaint_mask(resolution).copy())
        side = resolution // scale(vae)
        self.latent_shape = vae.config["latent_channels"], side, side

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """images (b, 3, r, r) in [-1, 1], most of them with another look; noise (b, c, h, w) of their latents."""
        images, noises = zip(*(self._sample(sample_generator(self.seed, index)) for index in indices), strict=True)
        return {"images": torch.stack(images), "noise": torch.stack(noises)}

    def _sample(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        image, generator = self.sampler.image(rng), torch.Generator().manual_seed(int(rng.integers(2**62)))
        return image, torch.randn(self.latent_shape, generator=generator)

    def losses(self, module: torch.nn.Module, batch: Mapping[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        """Error of the pictures, most of all around the mouth; how far the latents are from a normal distribution."""
        output, divergence = module(batch["images"], batch["noise"])
        weight = 1 + MOUTH_WEIGHT * self.mask.to(output.device)
        return {
            "pictures": reconstruction_loss(output, batch["images"], weight),
            "divergence": KL_WEIGHT * divergence.mean(),
        }

    def validate(self, module: torch.nn.Module) -> Report:
        """Mouth-region PSNR of held-out frames, by the posterior's mode."""
        if not self.held_out:
            return Report({})
        images = pixels(np.concatenate([_spread(clip.crops, VALIDATION_FRAMES) for clip in self.held_out]))
        device, outputs = next(module.parameters()).device, []
        for some in images.split(AT_ONCE):
            outputs.append(module(some.to(device), torch.zeros(len(some), *self.latent_shape, device=device))[0].cpu())
        return Report({"mouth_psnr": mouth_psnr(torch.cat(outputs), images, self.mask)})

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """diffusers' folder, with the scaling factor that gives latents of crops to train on unit variance."""
        assert isinstance(module, Reconstruction)
        images = self.batch(range(SCALED_BY))["images"].to(next(module.parameters()).device)
        module.vae.register_to_config(scaling_factor=measure_scaling(module.vae, images))
        save_module(module.vae, folder)


def build(config: DictConfig) -> tuple[Task, str]:
    """The task of a configuration, as `embedded` completes it, and the hash of its data.

    InputError for data that cannot be read.
    """
    training, held_out, data_hash = read_clips(config)
    vae = load_components(config.start_from).vae if config.start_from else _new(config)
    assert isinstance(vae, AutoencoderKL)
    shares = dict(config.data.shares or {})
    return AutoencoderTask(vae, training, held_out, shares, config.run.seed, config.resolution), data_hash


def _new(config: DictConfig) -> AutoencoderKL:
    """An autoencoder with 4 latent channels, one halving a level after the first, drawn from `run.seed`."""
    levels = len(config.block_out_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,  # type: ignore[arg-type]
            up_block_types=("UpDecoderBlock2D",) * levels,  # type: ignore[arg-type]
            block_out_channels=tuple(config.block_out_channels),  # type: ignore[arg-type]
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_groups,
            sample_size=config.resolution,
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
def measure_scaling(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """1 / standard deviation of the latents, so that scaled latents have unit variance."""
    return float(1 / vae.encode(images).latent_dist.mode().std())  # type: ignore[union-attr]


def _spread(crops: Array, count: int) -> np.ndarray:
    """`count` of the frames, evenly spread."""
    return crops[np.linspace(0, len(crops) - 1, count).astype(int)]
