"""The words every room shares: small frozen dataclasses with shapes and units, and the errors users see."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

AUDIO_SAMPLE_RATE = 16_000  # Hz, of every `waveform` inside the package
MODEL_FPS = 25.0  # video frames a second that the networks were trained on
FEATURE_RATE = 50.0  # audio feature rows a second (Whisper, HuBERT, wav2vec 2.0 and our mel encoder)
WINDOW_FRAMES = 16  # video frames the network sees at once


class InputError(ValueError):
    """Something the user gave cannot be used. The message names it, says what was found and what to do."""


class CheckpointError(InputError):
    """A checkpoint is missing, misshapen, tampered with or of another kind."""


@dataclass(frozen=True)
class VideoInfo:
    """What a container says of its first video stream; sizes are as displayed (after rotation)."""

    path: Path
    width: int
    height: int
    rotation: int  # degrees, 0 / 90 / 180 / 270, that the decoder must apply
    fps: Fraction  # average frame rate
    frames: int | None  # as the container says or estimates; None when it does not say
    duration: float | None  # seconds
    codec: str
    pixel_format: str
    has_audio: bool
    color_range: int
    colorspace: int
    color_primaries: int
    color_trc: int


@dataclass(frozen=True)
class AudioInfo:
    """What a container says of its first audio stream."""

    path: Path
    sample_rate: int
    channels: int
    layout: str
    codec: str
    duration: float | None  # seconds


@dataclass(frozen=True)
class Frame:
    """One decoded picture."""

    index: int  # position in the source, from 0
    time: float  # seconds, presentation time less that of the first frame
    image: np.ndarray  # (h, w, 3) uint8 RGB, upright


@dataclass(frozen=True)
class Face:
    """One face in one frame, in pixels of the whole frame."""

    box: tuple[float, float, float, float]  # left, top, right, bottom
    landmarks: np.ndarray  # (478, 2) float32 x, y: the MediaPipe face mesh with irises
    track: int  # number of the continuous track it belongs to, from 0 over the whole video
    score: float = 1.0
