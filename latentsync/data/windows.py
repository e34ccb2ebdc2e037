"""Windows of a clip as the dubbing UNet learns from them: a sample is a function of (seed, index).

A sample is a dict of tensors; f frames of a window, latents (c, h, w), crops of r pixels:

    timesteps ()             heard ()                 1 = with audio, 0 = without
    noise (c, f, h, w)       mixed noise
    latents, masked, reference (c, f, h, w)           where latents are cached
    frames, reference_frames (f, 3, r, r) uint8       where they are not; `frames` also where pixels are compared
    decoded (k,)             which frames of the window are decoded for that
    tokens (f, n, d)         of a frozen audio encoder, or
    mel (80, columns), rows (f,)                      for a mel encoder that is trained along
    sync_mel (1, 80, 52)     where a critic of lip sync listens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from latentsync.audio.features import PUBLISHED_WINDOW, local_stream
from latentsync.audio.mel_encoder import MARGIN
from latentsync.audio.windows import SYNCNET_COLUMNS, audio_windows, centre_step, syncnet_start
from latentsync.data.arrays import Array, StoredTensor
from latentsync.data.augmentation import Look, Voice
from latentsync.data.crops import ClipCrops
from latentsync.data.sampling import alike_moment, clip_weights, draw_moments, sample_generator
from latentsync.data.sound import AS_RECORDED, ClipSound
from latentsync.diffusion.noise import DEFAULT_ALPHA, mixed_noise
from latentsync.types import WINDOW_FRAMES, InputError

Sample = dict[str, torch.Tensor]
ROWS_A_FRAME = 2.6  # rows of audio at most between two frames, 50 Hz: down to 20 frames a second


@dataclass(frozen=True)
class WindowRecipe:
    """How windows are drawn."""

    frames: int = WINDOW_FRAMES  # of a window
    audio_dropout: float = 0.1  # share of the windows without audio, so that guidance is trained
    noise_alpha: float = DEFAULT_ALPHA  # weight of the part of the noise that frames share
    late_share: float = 0.0  # of the windows, drawn from the noisier half of the timesteps only
    swapped_context: float = 0.0  # share of the windows whose surroundings of the mouth are another moment's
    changed_voices: float = 0.0  # share of the windows heard through another microphone and throat (mel encoders)


class Sound(Protocol):
    """What a clip sounds like to the network."""

    def window(self, times: np.ndarray, rng: np.random.Generator) -> Sample:
        """times: (f,) seconds of the window's frames."""
        ...


class TokenSound:
    """Cached rows of a frozen encoder."""

    def __init__(self, rows: torch.Tensor | StoredTensor, window: tuple[int, int] = PUBLISHED_WINDOW) -> None:
        """rows: (steps, levels, width) at 50 Hz; window: rows before and after a frame's own."""
        self.rows, self.around = rows, window

    def window(self, times: np.ndarray, rng: np.random.Generator) -> Sample:
        """tokens (f, n, d)."""
        stream = local_stream(len(self.rows), lambda start, stop: self.rows[start:stop], margin=0, window=self.around)
        return {"tokens": audio_windows(stream, times.tolist())}


class MelSound:
    """Log-mel around the window, for an encoder that is trained along."""

    def __init__(self, waveform: Array, changed_voices: float) -> None:
        self.waveform, self.changed_voices = waveform, changed_voices

    @cached_property
    def _sound(self) -> ClipSound:
        return ClipSound(self.waveform)

    def window(self, times: np.ndarray, rng: np.random.Generator) -> Sample:
        """mel (80, columns), rows (f,)."""
        span = int(ROWS_A_FRAME * len(times)) + 1
        steps = np.array([centre_step(time) for time in times])
        voice = Voice.random(rng) if rng.random() < self.changed_voices else AS_RECORDED
        mel = self._sound.columns(int(steps[0]), span, MARGIN, voice)
        return {"mel": mel, "rows": torch.from_numpy(steps - steps[0]).clamp(0, span - 1)}


@dataclass(frozen=True)
class WindowClip:
    """One clip, ready to be cut into windows."""

    clip: ClipCrops
    starts: np.ndarray  # (n,) first frames of windows with a face throughout
    sound: Sound
    look: Look | None = None  # given to every picture
    latents: StoredTensor | None = None  # (c, f, h, w) cached, of the pictures with that look
    masked: StoredTensor | None = None  # (c, f, h, w) with the mouth hidden

    @property
    def name(self) -> str:
        """The clip's."""
        return self.clip.name

    @property
    def usable(self) -> np.ndarray:
        """(n,) bool, what the clip's share of the samples is reckoned from."""
        return np.ones(len(self.starts), bool)

    def pictures(self, start: int, frames: int) -> torch.Tensor:
        """(f, 3, r, r) uint8 from frame `start` on."""
        taken = self.clip.crops[start : start + frames]
        shown = self.look(taken) if self.look else taken
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(shown, -1, 1)))


def window_starts(clip: ClipCrops, frames: int) -> np.ndarray:
    """(n,) first frames of windows with a face throughout.

    InputError when the clip has no two such windows that share no frame: the reference would show the answer.
    """
    if len(clip) < 2 * frames:
        raise InputError(
            f"{clip.name} has {len(clip)} frames, and training needs two windows of {frames}: give a longer clip"
        )
    starts = np.flatnonzero(sliding_window_view(clip.usable, frames).all(axis=1))
    if not len(starts):
        raise InputError(f"{clip.name} shows a face in no {frames} frames in a row: prepare it again, or leave it out")
    apart = int(starts[-1] - starts[0])
    if apart < frames:
        raise InputError(
            f"{clip.name} shows a face in windows of {frames} frames that start at most {apart} frames apart, so that "
            "a reference would show the answer: prepare it again, give a longer clip, or leave it out"
        )
    return starts


class Windows:
    """Windows by number, of all clips."""

    def __init__(
        self,
        clips: Sequence[WindowClip],
        recipe: WindowRecipe,
        seed: int,
        *,
        latent_shape: tuple[int, int, int],
        timesteps: int,
        decoded_frames: int = 0,
        listens: bool = False,
        shares: dict[str, float] | None = None,
    ) -> None:
        """latent_shape: (c, h, w); timesteps: of the schedule; decoded_frames: of a window, whose pixels are compared;
        listens: whether a critic of lip sync wants its mel; shares: of the samples by group of clips, see
        `clip_weights`.
        """
        self.clips, self.recipe, self.seed = clips, recipe, seed
        self.latent_shape, self.timesteps = latent_shape, timesteps
        self.decoded_frames, self.listens = decoded_frames, listens
        self.weights = clip_weights(clips, shares or {})

    def clip(self, index: int) -> WindowClip:
        """The clip that a sample is cut from."""
        return self._drawn(sample_generator(self.seed, index))

    def _drawn(self, rng: np.random.Generator) -> WindowClip:
        return self.clips[int(rng.choice(len(self.clips), p=self.weights))]

    def sample(self, index: int) -> Sample:
        """One window. ValueError or OSError when its clip cannot be read or holds numbers that are not finite."""
        rng = sample_generator(self.seed, index)
        clip = self._drawn(rng)
        start, reference = draw_moments(clip.starts, self.recipe.frames, rng)
        sample = {**self._diffusion(rng), **self._pictures(clip, start, reference, rng)}
        times = clip.clip.times[start : start + self.recipe.frames]
        sample.update(clip.sound.window(times, rng))
        if self.listens:
            columns = clip.clip.sync_sound.columns(syncnet_start(float(times[0])), SYNCNET_COLUMNS)
            sample["sync_mel"] = columns[None]
        for name, tensor in sample.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ValueError(f"{name} of frames {start} to {start + self.recipe.frames} holds no finite numbers")
        return sample

    def _diffusion(self, rng: np.random.Generator) -> Sample:
        lowest = self.timesteps // 2 if rng.random() < self.recipe.late_share else 0
        c, h, w = self.latent_shape
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return {
            "timesteps": torch.tensor(int(rng.integers(lowest, self.timesteps))),
            "heard": torch.tensor(float(rng.random() >= self.recipe.audio_dropout)),
            "noise": mixed_noise((1, c, self.recipe.frames, h, w), generator, self.recipe.noise_alpha)[0],
        }

    def _pictures(self, clip: WindowClip, start: int, reference: int, rng: np.random.Generator) -> Sample:
        frames, sample = self.recipe.frames, {}
        if clip.latents is None or clip.masked is None:
            sample["reference_frames"] = clip.pictures(reference, frames)
        else:
            swapped = rng.random() < self.recipe.swapped_context
            around = alike_moment(clip.masked, clip.starts, start, rng) if swapped else start
            sample["latents"] = clip.latents[:, start : start + frames].float()
            sample["masked"] = clip.masked[:, around : around + frames].float()
            sample["reference"] = clip.latents[:, reference : reference + frames].float()
        if clip.latents is None or self.decoded_frames:
            sample["frames"] = clip.pictures(start, frames)
        if self.decoded_frames:
            chosen = np.sort(rng.choice(frames, self.decoded_frames, replace=False))
            sample["decoded"] = torch.from_numpy(chosen)
        return sample
