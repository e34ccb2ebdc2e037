"""What the network is asked for at a timestep, and what its answer says of the clean latents.

Written with the schedule's own numbers, so that training and sampling share them: alpha_t = sqrt(abar_t),
sigma_t = sqrt(1 - abar_t), z_t = alpha_t x_0 + sigma_t eps, v = alpha_t eps - sigma_t x_0 (Salimans and Ho 2022).
"""

from __future__ import annotations

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler


def _levels(schedule: DDIMScheduler, timesteps: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha_t and sigma_t, (b, 1, ...) of as many axes as `like`."""
    signal = schedule.alphas_cumprod.to(like.device)[timesteps].reshape(-1, *[1] * (like.ndim - 1))
    return signal.sqrt(), (1 - signal).sqrt()


def training_target(
    schedule: DDIMScheduler, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the network should answer: the noise, or the velocity, as `schedule` is configured.

    latents, noise: (b, c, f, h, w); timesteps: (b,)
    """
    if schedule.config["prediction_type"] == "epsilon":
        return noise
    assert schedule.config["prediction_type"] == "v_prediction", schedule.config["prediction_type"]
    alpha, sigma = _levels(schedule, timesteps, latents)
    return alpha * noise - sigma * latents


def original_estimate(
    schedule: DDIMScheduler, noisy: torch.Tensor, prediction: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """The clean latents that an answer stands for, in one step: (b, c, f, h, w) float32.

    x_0 = (z_t - sigma_t eps) / alpha_t (LatentSync, arXiv 2412.09262, section 3.2), or alpha_t z_t - sigma_t v.
    """
    noisy, prediction = noisy.float(), prediction.float()
    alpha, sigma = _levels(schedule, timesteps, noisy)
    if schedule.config["prediction_type"] == "epsilon":
        return (noisy - sigma * prediction) / alpha
    return alpha * noisy - sigma * prediction


def min_snr_weight(schedule: DDIMScheduler, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
    """min(SNR_t, gamma) / gamma: (b,) in (0, 1], for losses on the clean estimate (Hang et al. 2023, arXiv 2303.09556).

    The estimate from a very noisy timestep is an average over many faces, and counts for little.
    """
    signal = schedule.alphas_cumprod.to(timesteps.device)[timesteps]
    return (signal / (1 - signal)).clamp(max=gamma) / gamma
