"""What the UNet does on held-out windows: loss, what the audio is worth, and a dub beside the truth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange

from latentsync.data.windows import Sample, Windows
from latentsync.diffusion.conditioning import unet_input
from latentsync.diffusion.sampling import Conditions, sample_window
from latentsync.diffusion.schedulers import make_scheduler
from latentsync.diffusion.targets import training_target
from latentsync.losses.noise import noise_loss
from latentsync.models import autoencoder
from latentsync.training.loop.logbook import Report

if TYPE_CHECKING:
    from latentsync.training.unet.task import UNetTask

TIMESTEPS = (950, 800, 600, 350)  # of 1000, at which the loss is measured
SOUND = ("tokens", "mel", "rows")  # what the network hears
PSNR_FLOOR = 1e-10  # mean squared error that counts as none


def validate(task: UNetTask, module: torch.nn.Module, windows: Windows) -> Report:
    """Figures over held-out windows, the same in every run; a video of the first, truth beside dub.

    loss: mean over four timesteps; audio_gain: how much it rises when every window hears the one before it;
    mouth_psnr, sync: of finished dubs. Windows go one by one, so that what fits in training fits here.
    """
    device = next(module.parameters()).device
    batches = [_window(windows, index, device) for index in range(task.options.validated)]
    others = [{**one, **_sound(other)} for one, other in zip(batches, batches[-1:] + batches[:-1], strict=True)]
    right, wrong = (float(np.mean([_loss(task, module, batch) for batch in some])) for some in (batches, others))
    dubs = [_dub(task, module, batch) for batch in batches[: task.options.dubbed]]
    figures = {name: float(np.mean([found[name] for found, _ in dubs])) for name in (dubs[0][0] if dubs else {})}
    videos = {"truth_and_dub": dubs[0][1]} if dubs else {}
    return Report({"loss": right, "audio_gain": wrong - right, **figures}, videos=videos)


def _window(windows: Windows, index: int, device: torch.device) -> Sample:
    """A batch of one."""
    return {name: tensor[None].to(device) for name, tensor in windows.sample(index).items()}


def _sound(batch: Sample) -> Sample:
    return {name: batch[name] for name in SOUND if name in batch}


def _loss(task: UNetTask, module: torch.nn.Module, batch: Sample) -> float:
    schedule, (latents, masked, reference) = task.frozen.schedule, task.conditions(batch)
    mask, losses = task.frozen.latent_mask.to(latents.device), []
    for timestep in TIMESTEPS:
        timesteps = torch.full_like(batch["timesteps"], timestep * schedule.config["num_train_timesteps"] // 1000)
        noisy = schedule.add_noise(latents, batch["noise"], timesteps)  # type: ignore[arg-type]
        predicted = module(unet_input(noisy, mask, masked, reference), timesteps, batch, batch["heard"])
        target = training_target(schedule, latents, batch["noise"], timesteps)
        losses.append(noise_loss(predicted, target, mask, task.options.kept_weight).mean())
    return float(torch.stack(losses).mean())


class _ByHeard(torch.nn.Module):
    """The trained module as `sample_window` wants a UNet: where tokens are expected, it is told with or without audio.

    So that whatever wraps the module for distribution is called as a whole.
    """

    def __init__(self, module: torch.nn.Module, batch: Sample) -> None:
        super().__init__()
        self.module, self.batch = module, batch

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> SimpleNamespace:
        """sample: (k*b, 13, f, h, w); encoder_hidden_states: (k*b*f, 1, 1), 1 = with audio."""
        heard = rearrange(encoder_hidden_states, "(b f) 1 1 -> b f", f=sample.shape[2])[:, 0]
        turns = len(sample) // len(self.batch["heard"])
        sound = {name: told.repeat(turns, *[1] * (told.ndim - 1)) for name, told in _sound(self.batch).items()}
        return SimpleNamespace(sample=self.module(sample, timestep.expand(len(sample)), sound, heard))


def _dub(task: UNetTask, module: torch.nn.Module, batch: Sample) -> tuple[dict[str, float], np.ndarray]:
    """Figures of a finished window, and it beside its truth: (f, r, 2r, 3) uint8."""
    defaults, frozen = task.settings.defaults, task.frozen
    _, masked, reference = task.conditions(batch)
    silent = torch.zeros(1, masked.shape[2], 1, 1, device=masked.device)
    guidance = float(defaults["guidance_scale"])
    conditions = Conditions(
        frozen.latent_mask.to(masked.device), masked, reference, [(1 - guidance, silent), (guidance, silent + 1)]
    )
    latents = sample_window(
        _ByHeard(module, batch),
        lambda: make_scheduler(defaults["scheduler"], task.settings.scheduler),
        batch["noise"],
        conditions,
        int(defaults["num_inference_steps"]),
    )
    real = batch["frames"].float() / 127.5 - 1
    made = autoencoder.decode(frozen.vae, latents).float().clamp(-1, 1)
    figures = {"mouth_psnr": _mouth_psnr(made, real, frozen.mask)}
    if frozen.critics.sync is not None:
        shown = {"pixel": made, "latent": latents}[frozen.critics.sync.space]
        figures["sync"] = float(frozen.critics.sync.loss(shown, batch["sync_mel"]).mean())
    pair = torch.cat([real[0], made[0]], dim=-1)
    return figures, ((pair + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _mouth_psnr(made: torch.Tensor, real: torch.Tensor, mask: torch.Tensor) -> float:
    """Decibels inside the mask, of pixel values from 0 to 1."""
    inside = mask.to(made.device)
    squared = ((made - real) / 2).square().mean(dim=2) * inside
    error = squared.sum() / (inside.sum() * made.shape[1])
    return float(-10 * error.clamp(min=PSNR_FLOOR).log10())
