"""Train the dubbing UNet, stage 1 and stage 2: the task, for `training.loop.runner` to run.

LatentSync, arXiv 2412.09262: the noise loss alone without temporal modules; then temporal modules and attention with
critics of lip sync, sharpness and motion on the decoded one-step estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from einops import rearrange

from latentsync.audio.features import AudioEncoder
from latentsync.audio.mel_encoder import MelEncoder
from latentsync.data.windows import Sample, Windows
from latentsync.diffusion.conditioning import mask_pixels, mask_to_latents, steady_context, unet_input
from latentsync.diffusion.targets import min_snr_weight, original_estimate, training_target
from latentsync.hub import Settings, save_folder
from latentsync.hub.loras import LoraCard, save_lora
from latentsync.losses.noise import noise_loss
from latentsync.losses.weighted_sum import WeightedSum
from latentsync.models import autoencoder
from latentsync.models.autoencoder import Autoencoder
from latentsync.models.unet import LatentSyncUNet
from latentsync.training.loop.runner import BadSample, Report
from latentsync.training.loop.runtime import warn_user
from latentsync.training.unet.parts import merged
from latentsync.training.unet.pixel_losses import Critics, pixel_losses
from latentsync.training.unet.validation import validate

Batch = Mapping[str, torch.Tensor]
LORA = "lora"  # folder of the low-rank matrices, in the run folder beside the export


class ConditionedUNet(torch.nn.Module):
    """What is trained: the UNet, and the mel encoder where one learns along."""

    def __init__(self, unet: LatentSyncUNet, encoder: MelEncoder | None) -> None:
        super().__init__()
        self.unet, self.encoder = unet, encoder

    def forward(self, sample: torch.Tensor, timesteps: torch.Tensor, sound: Batch, heard: torch.Tensor) -> torch.Tensor:
        """sample: (b, 13, f, h, w); timesteps, heard: (b,); sound: tokens, or mel and rows, see `data.windows`.

        returns: (b, 4, f, h, w) float32
        """
        tokens = sound["tokens"] if self.encoder is None else self.encoder.rows_at(sound["mel"], sound["rows"])
        tokens = rearrange(tokens, "b f n d -> (b f) n d") * heard.repeat_interleave(sample.shape[2])[:, None, None]
        return self.unet(sample, timesteps, tokens).sample.float()


@dataclass(frozen=True)
class Frozen:
    """What training needs and does not change."""

    vae: Autoencoder
    critics: Critics
    schedule: DDIMScheduler
    mask: torch.Tensor  # (r, r) pixels, 1 = regenerate
    latent_mask: torch.Tensor  # (h, w)
    audio_encoder: AudioEncoder | None  # the frozen one; None where a mel encoder learns along

    @classmethod
    def of(
        cls,
        vae: Autoencoder,
        critics: Critics,
        scheduler: Mapping[str, Any],
        mask: torch.Tensor,
        audio_encoder: AudioEncoder | None,
    ) -> Frozen:
        """scheduler: a DDIM configuration; mask: (r, r) pixels, 1 = regenerate."""
        vae.requires_grad_(False)
        schedule = DDIMScheduler(**scheduler)
        return cls(vae, critics, schedule, mask, mask_to_latents(mask, autoencoder.scale(vae)), audio_encoder)

    def to(self, device: torch.device) -> None:
        """Move it to where the batches will be; it is not part of the module, so nobody else does."""
        for module in (self.vae, self.audio_encoder):
            if isinstance(module, torch.nn.Module):
                torch.nn.Module.to(module, device)
        self.critics.to(device)


@dataclass(frozen=True)
class TaskOptions:
    """How losses count, what the network is shown and what is written."""

    context_steadiness: float = 0.0  # frames; see `diffusion.conditioning.steady_context`, which dubbing uses too
    kept_weight: float = 1.0  # of the noise loss where the mask keeps
    min_snr: float | None = None  # gamma of the other losses' weight over timesteps; None: alike at all
    encoder_rate: float = 1.0  # factor on the mel encoder's learning rate
    compiled: bool = False  # the UNet, in training
    export_dtype: torch.dtype | None = None  # of the weights on disk; None: as they are
    validated: int = 8  # held-out windows whose loss is measured
    dubbed: int = 2  # of them, that are dubbed too
    lora: LoraCard | None = None  # of the low-rank matrices that are trained instead of weights, where they are


class UNetTask:
    """What is trained, on what, and what tells how well; see `loop.task.Task`."""

    training: Windows
    held_out: Windows | None

    def __init__(
        self,
        module: ConditionedUNet,
        frozen: Frozen,
        windows: Callable[[], tuple[Windows, Windows | None]],
        weights: WeightedSum,
        settings: Settings,
        options: TaskOptions,
    ) -> None:
        """windows: cuts the clips to train on and those held out, encoding them where that has not been done yet."""
        self.module, self.frozen, self.windows = module, frozen, windows
        self.weights, self.settings, self.options = weights, settings, options
        self.rates = {"encoder.": options.encoder_rate}
        self.figures: dict[str, float] = {}  # of the last validation
        self.updates = 0  # of the weights so far
        self.compiled = False  # whether it is, see `prepare`

    def prepare(self, device: torch.device) -> None:
        """Move what is frozen to the device and encode the clips there; compile the UNet where that is wanted."""
        self.frozen.to(device)
        self.compiled = self.options.compiled and device.type != "cpu"
        if self.compiled:
            self.module.unet.compile()
        elif self.options.compiled:
            warn_user(
                "compiled=true, but on processors torch has given compiled convolutions no gradient (2.13, measured: "
                "benchmarks/README.md): it trains uncompiled; set compiled=false"
            )
        self.training, self.held_out = self.windows()

    def batch(self, indices: Sequence[int]) -> Sample:
        """The windows of these numbers. BadSample names the clip that cannot be read."""
        samples = [self._sample(index) for index in indices]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self, index: int) -> Sample:
        try:
            return self.training.sample(index)
        except (OSError, ValueError) as error:
            raise BadSample(self.training.clip(index).name, str(error)) from error

    def losses(self, module: torch.nn.Module, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """The noise loss, and the critics' on the one-step estimate."""
        self.updates = step + 1
        schedule, mask = self.frozen.schedule, self.frozen.latent_mask.to(batch["noise"].device)
        latents, masked, reference = self.conditions(batch)
        timesteps, noise = batch["timesteps"], batch["noise"]
        noisy = schedule.add_noise(latents, noise, timesteps)  # type: ignore[arg-type]
        predicted = module(unet_input(noisy, mask, masked, reference), timesteps, batch, batch["heard"])
        target = training_target(schedule, latents, noise, timesteps)
        found = {"noise": noise_loss(predicted, target, mask, self.options.kept_weight)}
        if self.weights.wants("sync", "perceptual", "trepa"):
            gamma, estimate = self.options.min_snr, original_estimate(schedule, noisy, predicted, timesteps)
            counts = 1.0 if gamma is None else min_snr_weight(schedule, timesteps, gamma)
            shown = pixel_losses(self.frozen.critics, self.frozen.vae, estimate, batch)
            if "sync" in shown:
                shown["sync"] = shown["sync"] * batch["heard"]  # what heard nothing cannot be in time with it
            found.update({name: loss * counts for name, loss in shown.items()})
        return self.weights.ledger(found)

    @torch.no_grad()
    def conditions(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """latents, masked and reference latents (b, 4, f, h, w) of a batch, as the network is shown them."""
        latents, masked, reference = self._encoded(batch)
        return latents, steady_context(masked, self.options.context_steadiness), reference

    def _encoded(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """latents, masked, reference: cached, or encoded now."""
        if "latents" in batch:
            return batch["latents"], batch["masked"], batch["reference"]
        whole, reference = (batch[name].float() / 127.5 - 1 for name in ("frames", "reference_frames"))
        hidden = mask_pixels(whole, self.frozen.mask.to(whole.device))
        encoded = autoencoder.encode(self.frozen.vae, torch.cat([whole, hidden, reference])).float()
        latents, masked, other = encoded.chunk(3)
        return latents, masked, other

    def validate(self, module: torch.nn.Module) -> Report:
        """Loss on held-out windows, what the audio is worth, and a dub of them to look at."""
        if self.held_out is None:
            return Report({})
        eager = torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()
        with eager:  # a few windows of other shapes are not worth the compiler's minutes
            report = validate(self, module, self.held_out)
        self.figures = dict(report.figures)
        return report

    def state_dict(self) -> dict[str, Any]:
        """The last figures and the updates made, which the model card carries."""
        return {"figures": self.figures, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.figures, self.updates = state["figures"], state["updates"]

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """A checkpoint folder that `DubbingPipeline.from_pretrained` loads; LoRA is merged, and kept beside it."""
        assert isinstance(module, ConditionedUNet)
        encoder: Any = module.encoder if self.frozen.audio_encoder is None else self.frozen.audio_encoder
        figures = "".join(f"- held-out {name}: {value:.4f}\n" for name, value in self.figures.items())
        if self.options.lora is not None:
            card = replace(self.options.lora, steps=self.updates, figures=self.figures)
            save_lora(module.unet, folder.with_name(LORA), card)
        save_folder(
            folder,
            unet=merged(module.unet),
            vae=self.frozen.vae,
            audio_encoder=encoder,
            settings=self.settings,
            card=f"# LatentSync UNet\n\nTrained for face crops of {self.settings.resolution} px.\n\n{figures}",
            dtype=self.options.export_dtype,
        )
