"""Losses on what the network's answer would look like: one step to the clean latents, the decoder, frozen critics.

LatentSync, arXiv 2412.09262, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from latentsync.losses.perceptual import Lpips, perceptual_loss
from latentsync.losses.trepa import trepa_loss
from latentsync.models import autoencoder
from latentsync.models.autoencoder import Autoencoder
from latentsync.models.precision import computes_in_bf16
from latentsync.models.videomae import VideoFeatures

SyncLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""`(shown, mel (b, 1, 80, 52)) -> (b,)`: how little a critic believes each window. `shown` is pixel_values
(b, f, 3, h, w) about [-1, 1], or scaled latents (b, 4, f, h, w) for a critic of latents; gradients go to it."""


@dataclass(frozen=True)
class SyncCritic:
    """A frozen critic of lip sync and what it looks at."""

    loss: SyncLoss
    module: torch.nn.Module
    space: str  # "pixel" | "latent"


@dataclass(frozen=True)
class Critics:
    """The frozen networks; None where their loss has no weight."""

    sync: SyncCritic | None = None
    perceptual: Lpips | None = None
    trepa: VideoFeatures | None = None
    half: torch.dtype | None = None  # of TREPA's network, by far the largest, where the device computes in it

    @property
    def look_at_pixels(self) -> bool:
        """Whether anything has to be decoded."""
        reads_pixels = self.sync is not None and self.sync.space == "pixel"
        return reads_pixels or self.perceptual is not None or self.trepa is not None

    @property
    def want_whole_windows(self) -> bool:
        """Whether all frames of a window have to be decoded."""
        return self.trepa is not None or (self.sync is not None and self.sync.space == "pixel")

    def to(self, device: torch.device) -> None:
        """Move them; they are not part of what is trained, so nobody else does."""
        for module in (self.sync and self.sync.module, self.perceptual, self.trepa):
            if module is not None:
                module.to(device)
        if self.trepa is None or self.half is None or (self.half == torch.bfloat16 and not computes_in_bf16(device)):
            return
        torch.nn.Module.to(self.trepa.encoder, dtype=self.half)


def pixel_losses(
    critics: Critics, vae: Autoencoder, estimate: torch.Tensor, batch: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Each critic's loss by name, (b,) values.

    estimate: (b, c, f, h, w) clean latents in one step, with gradients; batch: see `data.windows`
    """
    found = {}
    if critics.look_at_pixels:
        chosen = batch["decoded"]
        generated = autoencoder.decode(vae, _frames(estimate, chosen, dim=2)).float()
        real = _frames(batch["frames"], chosen, dim=1).float() / 127.5 - 1
        if critics.perceptual is not None:
            found["perceptual"] = perceptual_loss(critics.perceptual, generated, real)
        if critics.trepa is not None:
            found["trepa"] = trepa_loss(critics.trepa, generated, real)
        if critics.sync is not None and critics.sync.space == "pixel":
            found["sync"] = critics.sync.loss(generated, batch["sync_mel"])
    if critics.sync is not None and critics.sync.space == "latent":
        found["sync"] = critics.sync.loss(estimate, batch["sync_mel"])
    return found


def _frames(windows: torch.Tensor, chosen: torch.Tensor, dim: int) -> torch.Tensor:
    """Frames `chosen` (b, k) of each window; dim: the axis of frames."""
    if chosen.shape[1] == windows.shape[dim]:
        return windows
    return torch.stack([window.index_select(dim - 1, own) for window, own in zip(windows, chosen, strict=True)])
