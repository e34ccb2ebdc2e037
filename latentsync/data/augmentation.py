"""Another look or another voice for the same clip, so that few recordings stand for many people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from latentsync.audio.mel import LOG_MEL_CENTRE, LOG_MEL_FLOOR, LOG_MEL_SPAN, N_MELS
from latentsync.types import AUDIO_SAMPLE_RATE

DB_PER_UNIT = 10.0 * LOG_MEL_SPAN  # of the normalised log-mel: a gain of 10 dB is 1 in log10 power
SILENT_COLUMN = (LOG_MEL_FLOOR - LOG_MEL_CENTRE) / LOG_MEL_SPAN

GAIN_RANGE = (-12.0, 6.0)  # dB: recordings differ in level, and the encoder has no level control
TILT_RANGE = (-12.0, 12.0)  # dB from the lowest band to the highest: microphones and rooms
STRETCH_RANGE = (0.82, 1.22)  # of the frequencies: vocal tracts of 14 to 20 cm (vocal tract length perturbation)
NOISE_RANGE = (-6.0, -2.5)  # log10 power of a steady noise; clear speech reaches 1
NOISE_SPREAD = 0.5  # log10 power, of one cell of that noise
NOISY_SHARE = 0.4

CONTROL_POINTS = 4  # a side, of the smooth displacement that makes another face
DISPLACEMENT = 0.025  # of the crop's side, standard deviation at a control point
CHANNEL_GAIN, GAMMA, CONTRAST, SATURATION = 0.18, 0.25, 0.15, 0.3  # standard deviations of the logarithms


@dataclass(frozen=True)
class Voice:
    """How a clip's log-mel is changed."""

    gain: float = 0.0  # dB
    tilt: float = 0.0  # dB from the lowest band to the highest
    stretch: float = 1.0  # factor on the frequencies
    noise: float | None = None  # log10 power of a steady noise
    seed: int = 0  # of that noise

    @classmethod
    def random(cls, rng: np.random.Generator) -> Voice:
        """Another microphone, room and throat."""
        gain, tilt = rng.uniform(*GAIN_RANGE), rng.uniform(*TILT_RANGE)
        stretch = float(np.exp(rng.uniform(*np.log(STRETCH_RANGE))))
        noise = float(rng.uniform(*NOISE_RANGE)) if rng.random() < NOISY_SHARE else None
        return cls(float(gain), float(tilt), stretch, noise, int(rng.integers(2**31)))

    def __call__(self, mel: torch.Tensor) -> torch.Tensor:
        """mel: (80, columns) normalised log-mel (`audio.mel.LogMel`) -> same shape."""
        if self.stretch != 1.0:
            mel = _stretched(mel, self.stretch)
        level = self.gain + self.tilt * np.linspace(-0.5, 0.5, N_MELS)
        mel = mel + torch.from_numpy(level / DB_PER_UNIT).float()[:, None]
        if self.noise is not None:
            mel = self._with_noise(mel)
        return mel.clamp(min=SILENT_COLUMN)

    def _with_noise(self, mel: torch.Tensor) -> torch.Tensor:
        assert self.noise is not None
        generator = torch.Generator().manual_seed(self.seed)
        power = self.noise + NOISE_SPREAD * torch.randn(mel.shape, generator=generator)
        natural = LOG_MEL_SPAN * float(np.log(10))  # powers add, and one unit of log-mel is this many nepers of power
        return torch.logaddexp(mel * natural, (power - LOG_MEL_CENTRE) / LOG_MEL_SPAN * natural) / natural


@lru_cache(maxsize=1)
def _band_centres() -> np.ndarray:
    """(80,) Hz."""
    from transformers.audio_utils import hertz_to_mel, mel_to_hertz

    top = hertz_to_mel(AUDIO_SAMPLE_RATE / 2, mel_scale="slaney")
    return np.asarray(mel_to_hertz(np.linspace(0, top, N_MELS + 2), mel_scale="slaney"))[1:-1]


def _stretched(mel: torch.Tensor, factor: float) -> torch.Tensor:
    """What was heard at f is heard at `factor` f; bands beyond the last repeat it."""
    centres = _band_centres()
    places = np.interp(centres / factor, centres, np.arange(N_MELS))
    below = np.minimum(places.astype(int), N_MELS - 2)
    part = torch.from_numpy(places - below).float()[:, None]
    return mel[below] * (1 - part) + mel[below + 1] * part


@dataclass(frozen=True)
class Look:
    """Another person's look for every frame of a clip: mirrored or not, other colours, another shape of face."""

    mirrored: bool
    curves: np.ndarray  # (256, 3) uint8, new value of each channel
    saturation: float
    places: np.ndarray  # (r, r, 2) float32, where each pixel comes from

    @classmethod
    def random(cls, rng: np.random.Generator, resolution: int) -> Look:
        """Skin, light, camera and the smooth shape of the face are drawn; the mouth's own movement stays."""
        import cv2

        gain, gamma = np.exp(rng.normal(0, CHANNEL_GAIN, 3)), np.exp(rng.normal(0, GAMMA))
        contrast = np.exp(rng.normal(0, CONTRAST))
        values = ((np.arange(256) / 255) ** gamma)[:, None] * gain ** np.array([1.0, 0.7, 1.0])
        curves = np.clip((values - 0.5) * contrast + 0.5, 0, 1) * 255
        shift = rng.normal(0, DISPLACEMENT * resolution, (CONTROL_POINTS, CONTROL_POINTS, 2)).astype(np.float32)
        smooth = cv2.resize(shift, (resolution, resolution), interpolation=cv2.INTER_CUBIC)
        grid = np.stack(np.meshgrid(*[np.arange(resolution, dtype=np.float32)] * 2), axis=-1)
        saturation = float(np.exp(rng.normal(0, SATURATION)))
        return cls(bool(rng.random() < 0.5), curves.round().astype(np.uint8), saturation, grid + smooth)

    @property
    def contents(self) -> bytes:
        """All that it is made of, for a cache's key."""
        return repr((self.mirrored, self.saturation)).encode() + self.curves.tobytes() + self.places.tobytes()

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """crops: (f, r, r, 3) uint8 RGB -> same shape."""
        return np.stack([self._frame(frame) for frame in crops])

    def _frame(self, frame: np.ndarray) -> np.ndarray:
        import cv2

        turned = np.ascontiguousarray(frame[:, ::-1]) if self.mirrored else frame
        nothing = np.empty(0, np.float32)  # the second map: both coordinates are in the first
        warped = cv2.remap(turned, self.places, nothing, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        levels = np.asarray(warped, np.uint8)
        coloured = np.stack([self.curves[levels[..., c], c] for c in range(3)], axis=-1).astype(np.float32)
        grey = coloured.mean(axis=-1, keepdims=True)
        return np.clip(grey + self.saturation * (coloured - grey), 0, 255).round().astype(np.uint8)
