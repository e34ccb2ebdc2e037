"""The loaded networks on their device: crops -> latents -> finished latents -> crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from latentsync.audio.features import ArrayWaveform, FeatureStream, WaveformSource
from latentsync.audio.windows import audio_windows
from latentsync.diffusion.conditioning import LATENT_CHANNELS, mask_pixels, mask_to_latents
from latentsync.diffusion.sampling import Conditions, sample_window
from latentsync.diffusion.schedulers import Scheduler
from latentsync.faces.masks import inpaint_mask
from latentsync.models import autoencoder
from latentsync.pipelines.device import set_attention
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, WINDOW_FRAMES, CheckpointError, InputError

if TYPE_CHECKING:
    from latentsync.hub import Components, Settings

Module = TypeVar("Module", bound=torch.nn.Module)

SILENCE_SECONDS = 2  # long enough that the rows in the middle see nothing but silence


def check_settings(settings: Settings) -> None:
    """raises: CheckpointError for networks that see other windows or another frame rate than the pipeline gives"""
    if settings.window_frames != WINDOW_FRAMES or settings.fps != MODEL_FPS:
        raise CheckpointError(
            f"The checkpoint is made for {settings.window_frames} frames at {settings.fps:g} a second; "
            f"this version dubs with {WINDOW_FRAMES} at {MODEL_FPS:g}: take another checkpoint."
        )


class Networks:
    """The networks of a checkpoint, ready to run; shared by all jobs of a pipeline."""

    def __init__(
        self, components: Components, device: torch.device, dtype: torch.dtype, attention: str, low_memory: bool
    ) -> None:
        """low_memory: modules stay on the CPU while they are not used, the autoencoder takes one picture at a time.

        raises: CheckpointError for a window or frame rate that is not supported; InputError when `attention` cannot be
            used, or the resolution does not fit the autoencoder
        """
        self.device, self.dtype, self.settings = device, dtype, components.settings
        check_settings(components.settings)
        self.low_memory = low_memory
        self.unet = self._place(components.unet, dtype)
        self.vae = self._place(components.vae, dtype)
        self.audio_encoder = components.audio_encoder
        if isinstance(self.audio_encoder, torch.nn.Module):
            self.audio_encoder.eval().requires_grad_(False).to(device)
        set_attention(self.unet, attention)
        if low_memory:
            self.vae.enable_slicing()  # type: ignore[operator]
        resolution, scale = self.resolution, autoencoder.scale(self.vae)
        if resolution % scale:
            raise InputError(f"The resolution is {resolution}; this checkpoint needs a multiple of {scale} pixels.")
        self.mask = inpaint_mask(resolution)
        self._pixel_mask = torch.from_numpy(self.mask.copy()).to(device)
        self._latent_mask = mask_to_latents(self._pixel_mask, scale)
        self.latent_shape = (LATENT_CHANNELS, resolution // scale, resolution // scale)
        self._silence: torch.Tensor | None = None

    @property
    def resolution(self) -> int:
        """Side of the square face crops in pixels."""
        resolution = self.settings.resolution
        assert resolution is not None, "the hub settles it"
        return resolution

    def _place(self, module: Module, dtype: torch.dtype) -> Module:
        place = torch.device("cpu") if self.low_memory else self.device
        # torch's own `to`: that of diffusers warns about modules that these networks do not have.
        torch.nn.Module.to(module.eval().requires_grad_(False), place, dtype)
        return module

    @contextmanager
    def _present(self, module: Module) -> Iterator[Module]:
        """The module on the device for as long as it is used."""
        yield module.to(self.device)
        if self.low_memory:
            module.to("cpu")

    def weight_bytes(self) -> int:
        """Bytes that all weights take together in their present precision."""
        modules = [m for m in (self.unet, self.vae, self.audio_encoder) if isinstance(m, torch.nn.Module)]
        return sum(p.numel() * p.element_size() for module in modules for p in module.parameters())

    def silence(self) -> torch.Tensor:
        """(n, d) audio tokens of digital silence; computed once."""
        if self._silence is None:
            still = ArrayWaveform(np.zeros(SILENCE_SECONDS * AUDIO_SAMPLE_RATE, np.float32))
            self._silence = self.tokens(self.audio_encoder.stream(still), [SILENCE_SECONDS / 2])[0]
        return self._silence

    @torch.no_grad()
    def audio_stream(self, source: WaveformSource) -> FeatureStream:
        """Features of a waveform on demand."""
        return self.audio_encoder.stream(source)

    @torch.no_grad()
    def tokens(self, stream: FeatureStream, times: Sequence[float]) -> torch.Tensor:
        """times: (f,) seconds -> (f, n, d) float32 audio tokens."""
        return audio_windows(stream, times)

    @torch.no_grad()
    def encode(self, crops: np.ndarray, *, masked: bool) -> torch.Tensor:
        """crops: (f, h, w, 3) uint8 -> (f, 4, h/s, w/s) float32 scaled latents on the CPU.

        masked: hide what is to be regenerated first
        """
        levels = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)[None].float()
        pixels = (levels / 127.5 - 1).to(self.dtype)
        if masked:
            pixels = mask_pixels(pixels, self._pixel_mask)
        with self._present(self.vae) as vae:
            return autoencoder.encode(vae, pixels)[0].transpose(0, 1).float().cpu()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """latents: (f, 4, h/s, w/s) finished -> (f, h, w, 3) uint8 crops."""
        stacked = latents.to(self.device, self.dtype).transpose(0, 1)[None]
        with self._present(self.vae) as vae:
            pixels = autoencoder.decode(vae, stacked)[0].float()
        levels = (pixels.permute(0, 2, 3, 1) + 1) * 127.5
        return levels.round().clamp(0, 255).to(torch.uint8).cpu().numpy()

    def denoise(
        self,
        make_scheduler: Callable[[], Scheduler],
        noise: torch.Tensor,
        masked_latents: torch.Tensor,
        reference_latents: torch.Tensor,
        branches: Sequence[tuple[float, torch.Tensor]],
        num_inference_steps: int,
    ) -> torch.Tensor:
        """noise, masked_latents, reference_latents: (b, 4, f, h, w) float32 on the CPU -> finished, the same.

        branches: weighted (b, f, n, d) audio tokens
        """
        conditions = Conditions(
            self._latent_mask, masked_latents.to(self.device), reference_latents.to(self.device), branches
        )
        with self._present(self.unet) as unet:
            return sample_window(unet, make_scheduler, noise.to(self.device), conditions, num_inference_steps).cpu()
