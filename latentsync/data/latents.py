"""Windows of cached latents with their sound: what the denoising recipe trains on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from latentsync.audio.mel_encoder import MARGIN, MelEncoder
from latentsync.audio.windows import centre_step
from latentsync.data.augmentation import Voice
from latentsync.data.crops import ClipCrops
from latentsync.data.sampling import alike_moment, clip_weights, draw_moments, pixels, sample_generator
from latentsync.data.sound import ClipSound
from latentsync.diffusion.conditioning import mask_pixels
from latentsync.models import autoencoder

ENCODED_AT_ONCE = 16  # frames
SWAPPED_CONTEXT = 0.1  # of the windows; the picture around the mouth is another moment's: jaw and cheeks tell nothing
ROWS_A_FRAME = 2.6  # rows of audio at most between two frames, 50 Hz: down to 20 frames a second


@dataclass(frozen=True)
class LatentClip:
    """One clip as the denoiser sees it."""

    name: str
    latents: torch.Tensor  # (4, f, h, w) float16, scaled: the whole crops
    masked: torch.Tensor  # (4, f, h, w) float16, scaled: the crops with the mouth hidden
    rows: np.ndarray  # (f,) row of audio at 50 Hz that each frame falls on
    sound: ClipSound

    def __len__(self) -> int:
        return self.latents.shape[1]

    @property
    def usable(self) -> np.ndarray:
        """(f,) bool; clips without a face throughout are not encoded at all."""
        return np.ones(len(self), bool)


@dataclass(frozen=True)
class WindowBatch:
    """One step's windows."""

    latents: torch.Tensor  # (b, 4, f, h, w)
    masked: torch.Tensor  # (b, 4, f, h, w)
    reference: torch.Tensor  # (b, 4, f, h, w)
    mel: torch.Tensor  # (b, 80, columns) around the window
    rows: torch.Tensor  # (b, f) int64: row of each frame within the mel's inner rows


@torch.no_grad()
def encode_clip(clip: ClipCrops, vae: autoencoder.Autoencoder, mask: torch.Tensor) -> LatentClip:
    """Latents of a clip, whole and with the mouth hidden. mask: (r, r), 1 = regenerate."""
    whole, hidden = [], []
    for start in range(0, len(clip), ENCODED_AT_ONCE):
        images = pixels(clip.crops[start : start + ENCODED_AT_ONCE])[None]
        both = torch.cat([images, mask_pixels(images, mask)]).to(vae.device)
        with torch.autocast(vae.device.type, torch.bfloat16):
            encoded = autoencoder.encode(vae, both).half().cpu()
        whole.append(encoded[0])
        hidden.append(encoded[1])
    rows = np.array([centre_step(time) for time in clip.times])
    return LatentClip(clip.name, torch.cat(whole, 1), torch.cat(hidden, 1), rows, ClipSound(clip.waveform))


class WindowSampler:
    """Windows of consecutive frames with references from another moment; a batch is a function of (seed, step)."""

    def __init__(
        self, clips: list[LatentClip], shares: dict[str, float], seed: int, swapped_context: float = SWAPPED_CONTEXT
    ) -> None:
        """swapped_context: share of the windows whose masked latents are another, similar moment's."""
        self.clips, self.seed, self.swapped_context = clips, seed, swapped_context
        self.weights = clip_weights(clips, shares)

    def batch(self, step: int, windows: int, frames: int) -> WindowBatch:
        """`windows` windows of `frames` frames each."""
        rng = sample_generator(self.seed, step)
        chosen = rng.choice(len(self.clips), windows, p=self.weights)
        parts = [self._window(self.clips[c], frames, rng) for c in chosen]
        return WindowBatch(*(torch.stack(column) for column in zip(*parts, strict=True)))

    def _window(self, clip: LatentClip, frames: int, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        starts = np.arange(len(clip) - frames + 1)
        start, reference = draw_moments(starts, rng)
        span = int(ROWS_A_FRAME * frames) + 1
        first = int(clip.rows[start])
        mel = clip.sound.columns(first, span, MARGIN, Voice.random(rng))
        rows = torch.from_numpy(clip.rows[start : start + frames] - first).clamp(0, span - 1)
        swapped = rng.random() < self.swapped_context
        context = alike_moment(clip.masked, starts, start, rng) if swapped else start
        here, around, there = (slice(first, first + frames) for first in (start, context, reference))
        return (
            clip.latents[:, here].float(),
            clip.masked[:, around].float(),
            clip.latents[:, there].float(),
            mel,
            rows,
        )


def frame_tokens(encoder: MelEncoder, mel: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Audio tokens of every frame of a batch, with gradients: (b*f, levels, width).

    mel: (b, 80, columns) around the windows; rows: (b, f) row of each frame within the mel's inner rows
    """
    heard = encoder.rows_with_context(mel)
    index = rows[:, :, None, None].expand(-1, -1, *heard.shape[2:])
    return rearrange(heard.gather(1, index), "b f n d -> (b f) n d")
