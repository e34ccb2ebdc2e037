"""What a StableSyncNet makes of every window of a stream of pictures and of a waveform; no picture is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from einops import rearrange

from latentsync.audio.mel import syncnet_mel
from latentsync.audio.windows import SYNCNET_COLUMNS, syncnet_start
from latentsync.data.cached import encoded
from latentsync.data.sampling import pixels
from latentsync.models.autoencoder import Autoencoder
from latentsync.models.stable_syncnet import StableSyncNet, lower_half
from latentsync.types import MODEL_FPS

BATCH = 16  # windows, or pictures, at once

Thing = TypeVar("Thing")


def batches(things: Iterable[Thing], size: int = BATCH) -> Iterator[list[Thing]]:
    """Lists of `size` things, the last one shorter."""
    rest = iter(things)
    while some := list(islice(rest, size)):
        yield some


def runs(things: Iterable[Thing], size: int, window: int) -> Iterator[list[Thing]]:
    """Lists of at most `size` new things, each list after the last `window` - 1 of the one before, so that every window
    of `window` lies whole in just one of them."""
    held: list[Thing] = []
    for some in batches(things, size):
        held = [*held[max(0, len(held) + 1 - window) :], *some]
        if len(held) >= window:
            yield held


class StableVectors:
    """A network, frozen, on the GPU where there is one."""

    def __init__(self, network: StableSyncNet, vae: Autoencoder | None = None) -> None:
        """vae: makes the latents of a network that looks at them."""
        self.input = network.input
        assert (self.input.space == "latent") == (vae is not None)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.eval().to(self._device)
        self._vae = vae if vae is None else vae.to(self._device)  # type: ignore[arg-type]

    @torch.no_grad()
    def seen(self, crops: Iterable[np.ndarray], step: int = 1) -> np.ndarray:
        """crops: each (r, r, 3) uint8, one after the other -> (windows, d), a window every `step` pictures."""
        windows = batches(self._windows(crops, step))
        return np.concatenate([self._network.visual_encoder(torch.stack(some)).cpu().numpy() for some in windows])

    def _windows(self, crops: Iterable[np.ndarray], step: int) -> Iterator[torch.Tensor]:
        """(f*c, h, w) of every window."""
        recent: deque[torch.Tensor] = deque(maxlen=self.input.frames)
        for index, shown in enumerate(self._shown(crops)):
            recent.append(shown)
            start = index + 1 - self.input.frames
            if start >= 0 and start % step == 0:
                yield torch.cat(tuple(recent))

    def _shown(self, crops: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """(c, h, w) of every picture: its lower half as the network looks at it."""
        for some in batches(crops):
            if self._vae is None:
                images = pixels(np.stack(some))[:, None]
            else:
                images = rearrange(encoded(self._vae, np.stack(some), lambda image: image)[0], "c f h w -> f 1 c h w")
            yield from lower_half(images.to(self._device), self.input)

    @torch.no_grad()
    def heard(self, waveform: np.ndarray, windows: int) -> np.ndarray:
        """waveform: (samples,) at 16 kHz -> (windows, d), a window every 1/25 s from the first sample on."""
        mel, parts = syncnet_mel(waveform), []
        for some in batches(range(windows)):
            columns = [syncnet_start(at / MODEL_FPS) for at in some]
            cut = torch.stack([mel[None, :, column : column + SYNCNET_COLUMNS] for column in columns])
            parts.append(self._network.audio_encoder(cut.to(self._device)).cpu().numpy())
        return np.concatenate(parts)
