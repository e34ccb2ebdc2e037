"""Clips as UniSync takes them: windows of 5 frames of any representation, and 0.2 s of mel or of speech features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from latentsync.audio.mel import syncnet_columns, syncnet_length
from latentsync.audio.windows import centre_step, syncnet_start
from latentsync.data.arrays import Array
from latentsync.data.crops import ClipCrops
from latentsync.data.pairs import Change, PairClip, pair_starts
from latentsync.data.sampling import pixels
from latentsync.data.sync_vectors import batches
from latentsync.models.stable_syncnet import VisualInput, lower_half
from latentsync.models.unisync import ALL_LEVELS, FEATURE_ROWS, FRAMES, MEL_COLUMNS, Audio, UniSync, Visual
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, InputError

NO_ROWS = torch.zeros(0, 0, 0)
WINDOW_SAMPLES = round(FRAMES / MODEL_FPS * AUDIO_SAMPLE_RATE)  # 0.2 s
BATCH = 64  # windows at once
LEAST_DISTANCE = 2  # frames; sound moved by one frame still fits

Represent = Callable[[ClipCrops], Array]
"""clip -> (f, ...) what is looked at: crops (f, r, r, 3) uint8, regions (f, s, s) uint8, or numbers (f, n) float32"""
Encode = Callable[[np.ndarray], torch.Tensor]
"""waveform (samples,) -> rows (steps, levels, width) at 50 a second"""


@dataclass(frozen=True)
class UniSyncClip(PairClip[Visual]):
    """A clip for UniSync."""

    rows: torch.Tensor = field(default=NO_ROWS)  # (steps, width) where features are heard

    def images(self, start: int, wanted: Visual, look: Change | None) -> torch.Tensor:
        """What `UniSync.see` takes of the window from frame `start` on, without the batch."""
        taken = self.pictures[start : start + FRAMES]
        assert isinstance(taken, np.ndarray)
        return visual_window(taken, wanted, look)

    def mel(self, start: int) -> torch.Tensor:
        """What `UniSync.hear` takes of it: (1, 80, 16) mel, or (10, width) features."""
        first = int(self.columns[start])
        if len(self.rows):
            return self.rows[first : first + FEATURE_ROWS].float()
        return self.sound.columns(first, MEL_COLUMNS)[None]


def visual_window(shown: np.ndarray, wanted: Visual, look: Change | None = None) -> torch.Tensor:
    """What `UniSync.see` takes of 5 frames, without the batch.

    shown: (5, r, r, 3) uint8 RGB crops of any size, (5, size, size) regions, or (5, numbers); as `Represent` makes them
    """
    if wanted.pixels:
        looks_at = VisualInput(frames=FRAMES, size=wanted.size)
        return lower_half(pixels(look(shown) if look else shown)[None], looks_at)[0]
    return torch.from_numpy(np.ascontiguousarray(shown))


def mel_window(waveform: np.ndarray, frame: int) -> torch.Tensor:
    """What `UniSync.hear` takes of the 5 frames from `frame` on, without the batch: (1, 80, 16) mel.

    waveform: (samples,) 16 kHz, of a clip at 25 frames a second; zeros are heard outside it
    """
    return syncnet_columns(waveform, syncnet_start(frame / MODEL_FPS), MEL_COLUMNS)[None]


def heard_rows(rows: torch.Tensor, audio: Audio) -> torch.Tensor:
    """(steps, levels, width) of a speech network -> (steps, numbers) as `audio` says. InputError where they do not fit.

    Row 2 f is the first of frame f's window.
    """
    levels, level = rows.shape[1], audio.level
    if level != ALL_LEVELS and not (isinstance(level, int) and -levels <= level < levels):
        raise InputError(
            f"audio.level is {level!r} and the encoder has {levels} levels: give one of them by number, or "
            f"{ALL_LEVELS!r}"
        )
    taken = rows[:, level] if isinstance(level, int) else rows.flatten(1)
    if taken.shape[1] != audio.width:
        raise InputError(
            f"the network listens to {audio.width} numbers a row ({audio.source}) and the encoder gives "
            f"{taken.shape[1]}: give the encoder that it was trained with"
        )
    return taken


def unisync_clip(
    clip: ClipCrops,
    visual: Visual,
    audio: Audio,
    *,
    represent: Represent | None = None,
    encode: Encode | None = None,
    distance: int = LEAST_DISTANCE,
    silence: float = 0.0,
) -> UniSyncClip:
    """Cut a clip into windows, of which some are at least `distance` frames apart and not silent.

    represent: None for RGB; encode: None for mel; silence: root mean square under which a window is silent
    InputError says why no pair can be drawn from the clip, or what does not fit the network.
    """
    shown = clip.crops if represent is None else represent(clip)
    check_shown(shown, visual, clip.name)
    rows = NO_ROWS if encode is None else heard_rows(encode(np.asarray(clip.waveform)), audio)
    at = syncnet_start if encode is None else centre_step
    columns = np.array([at(time) for time in clip.times])
    length, span = (syncnet_length(clip.waveform), MEL_COLUMNS) if encode is None else (len(rows), FEATURE_ROWS)
    starts = pair_starts(clip, FRAMES, distance, columns + span <= length)
    silent = silent_windows(clip, silence)
    loud = starts[~silent[starts]]
    partnered = (np.abs(starts[:, None] - loud[None]) >= distance).any(axis=1)
    starts = starts[partnered | ~silent[starts]]
    if not len(loud):
        raise InputError(f"{clip.name} is silent throughout (root mean square below {silence:g}): leave it out")
    return UniSyncClip(clip.name, clip.speaker, shown, clip.sync_sound, columns, starts, silent, rows)


def check_shown(shown: Array, visual: Visual, name: str) -> None:
    """InputError where what is looked at is not what the network was built for."""
    if visual.pixels:
        fits, told = len(shown.shape) == 4 and shown.shape[-1] == visual.width, "colours"
    elif visual.kind == "parsing":
        fits = shown.shape[1:] == (visual.size, visual.size) and int(np.asarray(shown).max(initial=0)) < visual.width
        told = f"regions on {visual.size} x {visual.size} pixels"
    else:
        fits, told = shown.shape[1:] == (visual.width,), "numbers"
    if not fits:
        raise InputError(
            f"{name}: the network looks at {visual.width} {told} a frame ({visual.kind}: {visual.source}), and got "
            f"{shown.shape[1:]}: give what it was trained with, or set visual.kind"
        )


def silent_windows(clip: ClipCrops, silence: float) -> np.ndarray:
    """(f,) bool: the 0.2 s from each frame on have a root mean square below `silence` of full scale."""
    first = np.round(clip.times * AUDIO_SAMPLE_RATE).astype(int)
    padded = np.pad(clip.waveform, (0, max(0, int(first[-1]) + WINDOW_SAMPLES - len(clip.waveform))))
    power = sliding_window_view(np.square(padded, dtype=np.float64), WINDOW_SAMPLES)[first].mean(axis=1)
    return np.sqrt(power) < silence


class UniSyncVectors:
    """What a network makes of every window of a clip; on the GPU where there is one."""

    def __init__(self, network: UniSync, encode: Encode | None = None) -> None:
        """encode: makes the features that the network listens to. InputError where it listens to some without one."""
        if (network.audio.kind == "features") != (encode is not None):
            told = "needs the encoder that made them" if encode is None else "needs no encoder"
            raise InputError(f"this UniSync listens to {network.audio.kind} ({network.audio.source}) and {told}")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network, self._encode = network.eval().to(self._device), encode

    @torch.no_grad()
    def seen(self, shown: np.ndarray) -> np.ndarray:
        """shown: (f, ...) as `Represent` makes it -> (f - 4, d), a window from each frame on."""
        visual, parts = self.network.visual, []
        check_shown(shown, visual, "the clip")
        for some in batches(range(len(shown) - FRAMES + 1), BATCH):
            windows = torch.stack([visual_window(shown[at : at + FRAMES], visual) for at in some])
            parts.append(self.network.see(windows.to(self._device)).cpu().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def heard(self, waveform: np.ndarray, windows: int) -> np.ndarray:
        """waveform: (samples,) at 16 kHz -> (windows, d), a window every 1/25 s from the first sample on.

        After the sound's end zeros are heard, or the last row of the features.
        """
        rows = None if self._encode is None else heard_rows(self._encode(waveform), self.network.audio).float()
        parts = []
        for some in batches(range(windows), BATCH):
            cut = [mel_window(waveform, at) if rows is None else _rows_at(rows, at) for at in some]
            parts.append(self.network.hear(torch.stack(cut).to(self._device)).cpu().numpy())
        return np.concatenate(parts)


def _rows_at(rows: torch.Tensor, frame: int) -> torch.Tensor:
    """(10, width): the features of the window from `frame` on."""
    first = centre_step(frame / MODEL_FPS)
    return rows[torch.arange(first, first + FEATURE_ROWS).clamp(max=len(rows) - 1)]
