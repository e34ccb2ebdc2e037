"""Train the UNet and its mel encoder on cached latents with the denoising loss: the embedded model's last stage.

Stage 1 has no temporal modules and takes short windows of many clips; stage 2 adds the temporal modules, which begin
as the identity, and takes whole windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import EMAModel

from latentsync.audio.mel_encoder import MelEncoder
from latentsync.data.latents import WindowBatch, WindowSampler, frame_tokens
from latentsync.diffusion.conditioning import steady_context, unet_input
from latentsync.diffusion.noise import mixed_noise
from latentsync.models.unet import LatentSyncUNet
from latentsync.training.runtime import cosine_rate

AUDIO_DROPOUT = 0.1  # share of windows trained without audio, for guidance
KEPT_WEIGHT = 0.05  # of the loss where the mask keeps; those pixels are taken from the source afterwards
LATE_SHARE = 0.5  # of the windows, drawn from the noisier half of the timesteps, where the mouth's shape is decided
VALIDATION_TIMESTEPS = (950, 800, 600, 350)


@dataclass(frozen=True)
class DenoisingRecipe:
    """What a run does; `windows` of `frames` frames make a batch."""

    steps: int
    windows: int
    frames: int
    learning_rate: float
    encoder_rate: float  # factor on the learning rate of the mel encoder
    warmup: int
    ema_decay: float
    seed: int
    save_every: int
    compiled: bool = False  # minutes of waiting for a step that is half as long again


class Denoiser(torch.nn.Module):
    """The UNet with its audio encoder, and the loss that trains them together."""

    mask: torch.Tensor

    def __init__(
        self,
        unet: LatentSyncUNet,
        encoder: MelEncoder,
        schedule: DDIMScheduler,
        mask: torch.Tensor,
        context_steadiness: float = 0.0,
    ) -> None:
        """mask: (h, w) at latent size, 1 = regenerate; context_steadiness: frames, as in dubbing."""
        super().__init__()
        self.unet, self.encoder, self.schedule = unet, encoder, schedule
        self.context_steadiness = context_steadiness
        self.register_buffer("mask", mask, persistent=False)

    def loss(
        self, batch: WindowBatch, timesteps: torch.Tensor, noise: torch.Tensor, heard: torch.Tensor
    ) -> torch.Tensor:
        """Mean squared error of the velocity in every window: (b,).

        timesteps: (b,) int64; noise: (b, 4, f, h, w); heard: (b,) 1 = with audio, 0 = without
        """
        tokens = frame_tokens(self.encoder, batch.mel, batch.rows)
        tokens = tokens * heard.repeat_interleave(batch.rows.shape[1])[:, None, None]
        noisy = self.schedule.add_noise(batch.latents, noise, timesteps)  # type: ignore[arg-type]
        target = self.schedule.get_velocity(batch.latents, noise, timesteps)  # type: ignore[arg-type]
        context = steady_context(batch.masked, self.context_steadiness)
        sample = unet_input(noisy, self.mask, context, batch.reference)
        predicted = self.unet(sample, timesteps, tokens).sample.float()
        weight = KEPT_WEIGHT + (1 - KEPT_WEIGHT) * self.mask
        squared = ((predicted - target).square() * weight).mean(dim=(1, 2, 3, 4))
        return squared / weight.mean()


def draw_timesteps(rng: np.random.Generator, count: int, total: int) -> torch.Tensor:
    """(count,) int64; `LATE_SHARE` of them from the noisier half."""
    late = rng.random(count) < LATE_SHARE
    return torch.from_numpy(np.where(late, rng.integers(total // 2, total, count), rng.integers(0, total, count)))


def _noise(batch: WindowBatch, seed: int) -> torch.Tensor:
    b, c, f, h, w = batch.latents.shape
    return mixed_noise((b, c, f, h, w), torch.Generator().manual_seed(seed))


@torch.no_grad()
@torch.compiler.set_stance("force_eager")
def validate(denoiser: Denoiser, batch: WindowBatch) -> tuple[float, float]:
    """Loss on held-out windows, and how much it rises when every window hears another's audio."""
    count = len(batch.latents)
    swapped = WindowBatch(batch.latents, batch.masked, batch.reference, batch.mel.roll(1, 0), batch.rows.roll(1, 0))
    heard, losses = torch.ones(count), []
    for heard_batch in (batch, swapped):
        for timestep in VALIDATION_TIMESTEPS:
            timesteps = torch.full((count,), timestep)
            with torch.autocast("cpu", torch.bfloat16):
                losses.append(denoiser.loss(heard_batch, timesteps, _noise(batch, timestep), heard).mean().item())
    right, wrong = np.split(np.array(losses), 2)
    return float(right.mean()), float((wrong - right).mean())


class DenoisingRun:
    """One resumable run: everything with state is here, and `save` writes all of it."""

    def __init__(self, recipe: DenoisingRecipe, denoiser: Denoiser, folder: Path) -> None:
        self.recipe, self.denoiser, self.folder, self.step = recipe, denoiser, folder, 0
        rate = recipe.learning_rate
        groups = [
            {"params": denoiser.unet.parameters(), "lr": rate},
            {"params": denoiser.encoder.parameters(), "lr": rate * recipe.encoder_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
        self.rate = torch.optim.lr_scheduler.LambdaLR(self.optimizer, cosine_rate(recipe.steps, recipe.warmup))
        self.ema = EMAModel(denoiser.parameters(), decay=recipe.ema_decay, foreach=True)
        if recipe.compiled:
            denoiser.unet.compile()

    def save(self) -> None:
        """Write the state; a reader never sees half of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "weights": self.denoiser.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rate": self.rate.state_dict(),
        }
        partial = self.folder / ".state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "state.pt")

    def resume(self) -> None:
        """Go on from the last `save` in the run's folder, if there is one."""
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.denoiser.load_state_dict(state["weights"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rate.load_state_dict(state["rate"])

    def train_step(self, sampler: WindowSampler) -> float:
        """One update; returns its loss."""
        recipe = self.recipe
        batch = sampler.batch(self.step, recipe.windows, recipe.frames)
        rng = np.random.default_rng((recipe.seed, self.step, 1))
        timesteps = draw_timesteps(rng, recipe.windows, self.denoiser.schedule.config["num_train_timesteps"])
        heard = torch.from_numpy((rng.random(recipe.windows) >= AUDIO_DROPOUT).astype(np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            noise = _noise(batch, recipe.seed * 1_000_003 + self.step)
            loss = self.denoiser.loss(batch, timesteps, noise, heard).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        self.optimizer.step()
        self.rate.step()
        self.ema.step(self.denoiser.parameters())
        self.step += 1
        return loss.item()

    def run(self, sampler: WindowSampler, held_out: WindowBatch | None, log: Callable[[str], None]) -> None:
        """Train to the recipe's last step; validates and saves every `save_every` steps."""
        started, losses = time.monotonic(), []
        while self.step < self.recipe.steps:
            losses.append(self.train_step(sampler))
            if self.step % self.recipe.save_every == 0 or self.step == self.recipe.steps:
                recent, elapsed = np.mean(losses[-self.recipe.save_every :]), time.monotonic() - started
                log(f"step {self.step} loss {recent:.4f} {self._validated(held_out)} {elapsed:.0f} s")
                self.save()

    def _validated(self, held_out: WindowBatch | None) -> str:
        if held_out is None:
            return "(no held-out clips)"
        self.ema.store(self.denoiser.parameters())
        self.average()
        loss, audio_gain = validate(self.denoiser, held_out)
        self.ema.restore(self.denoiser.parameters())
        return f"held-out {loss:.4f} audio gain {audio_gain:.4f}"

    def average(self) -> None:
        """Give the denoiser the moving average of its weights: what a finished run hands on."""
        self.ema.copy_to(self.denoiser.parameters())
