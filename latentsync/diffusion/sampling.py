"""The guided denoising loop over one batch of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange

from latentsync.diffusion.conditioning import unet_input
from latentsync.diffusion.schedulers import Scheduler

Branches = Sequence[tuple[float, torch.Tensor]]


@dataclass(frozen=True)
class Conditions:
    """What holds still while a batch of windows is denoised.

    inpaint_mask: broadcastable to (b, 1, f, h, w), at latent size, 1 = regenerate
    masked_latents, reference_latents: (b, 4, f, h, w), scaled
    branches: (weight, (b, f, n, d) audio tokens) pairs, the weights sum to 1; see `amplitude.branches`
    """

    inpaint_mask: torch.Tensor
    masked_latents: torch.Tensor
    reference_latents: torch.Tensor
    branches: Branches


def guided_prediction(
    unet: torch.nn.Module, latents: torch.Tensor, timestep: torch.Tensor, conditions: Conditions
) -> torch.Tensor:
    """The network's prediction, summed over the weighted branches of audio in one pass.

    latents: (b, 4, f, h, w), as the scheduler scales the network's input
    returns: (b, 4, f, h, w) float32 noise_pred (or v_pred: whatever the network was trained to predict)
    """
    parameter = next(unet.parameters())
    sample = unet_input(latents, conditions.inpaint_mask, conditions.masked_latents, conditions.reference_latents)
    tokens = torch.cat([tokens for _, tokens in conditions.branches])
    predictions = unet(
        sample.repeat(len(conditions.branches), 1, 1, 1, 1).to(parameter),
        timestep.to(parameter.device),
        encoder_hidden_states=rearrange(tokens, "b f n d -> (b f) n d").to(parameter),
    ).sample.float()
    weights = torch.tensor([weight for weight, _ in conditions.branches], device=predictions.device)
    return torch.einsum("k, k b c f h w -> b c f h w", weights, predictions.unflatten(0, (len(weights), -1)))


@torch.no_grad()
def sample_window(
    unet: torch.nn.Module,
    make_scheduler: Callable[[], Scheduler],
    noise: torch.Tensor,
    conditions: Conditions,
    num_inference_steps: int,
    on_step: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Denoise a batch of windows from pure noise; every call starts a scheduler of its own.

    unet: called as `unet(sample (b, 13, f, h, w), timestep, encoder_hidden_states=(b*f, n, d)).sample`
    noise: (b, 4, f, h, w) float32, unit variance
    on_step: called after each step, for progress
    returns: (b, 4, f, h, w) float32 finished latents
    """
    scheduler = make_scheduler()
    scheduler.set_timesteps(num_inference_steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        network_input = scheduler.scale_model_input(latents, timestep)  # type: ignore[arg-type]
        prediction = guided_prediction(unet, network_input, timestep, conditions)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]  # type: ignore[arg-type]
        on_step()
    return latents
