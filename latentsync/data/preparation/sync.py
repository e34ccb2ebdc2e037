"""Stage 6: how far sound and picture are apart, and how sure that is, by a critic that can be exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.silence import SilenceGate
from latentsync.data.preparation.resample import TICK_SAMPLES
from latentsync.data.preparation.store import Dropped
from latentsync.faces.lips import lip_gap
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS

LEAST_SPEECH = 0.2  # share of the pictures at which somebody must be heard speaking

LEVEL_SAMPLES = AUDIO_SAMPLE_RATE // 100  # of sound to one value of the level
LEVEL_SECONDS = LEVEL_SAMPLES / AUDIO_SAMPLE_RATE
SPEECH_BAND = (200.0, 3500.0)  # Hz: what an open mouth makes loud
LEVEL_RANGE = 3.0  # log10 power under the loudest parts that counts; what lies below is the room
LOUDEST = 95  # percentile of the level that counts as loud
LEVEL_SMOOTHING, GAP_SMOOTHING = 3.0, 0.7  # standard deviations, in values of the level and in pictures
MARGIN = 13  # ticks (0.5 s) of sound beyond what is compared, for the filters
LEAST_OVERLAP = 0.5  # share of the pictures that must have sound at a shift for it to be tried
IN_SYNC = 3  # frames around zero that count as no offset: lips part before they are heard, and the estimate scatters
CLEARER = 0.25  # correlation by which an offset must beat all those near zero to be believed


@dataclass(frozen=True)
class Spoken:
    """What a critic looks at: one clip and the sound of the whole video that it is from."""

    crops: np.ndarray  # (f, r, r, 3) uint8
    landmarks: np.ndarray  # (f, 478, 2) px of the whole picture
    waveform: np.ndarray  # (samples,) 16 kHz, of the whole video
    start: int  # tick of the clip's first picture

    @property
    def own_sound(self) -> np.ndarray:
        """(f * 640,) the samples that belong to the clip's pictures as the file has them."""
        return self.waveform[self.start * TICK_SAMPLES : (self.start + len(self.crops)) * TICK_SAMPLES]


@dataclass(frozen=True)
class SyncScore:
    """What a critic says of one clip."""

    offset: float  # frames of 1/25 s by which the sound comes too late; too early where negative
    confidence: float  # how much better the offset fits than others do; the scale is the critic's


class SyncCritic(Protocol):
    """Finds the offset of sound and picture."""

    def score(self, spoken: Spoken, reach: int) -> SyncScore:
        """Search offsets of up to `reach` frames to either side."""
        ...


def measure(spoken: Spoken, critic: SyncCritic, reach: int) -> dict[str, Any]:
    """{offset, confidence} of a clip. Dropped where hardly anybody is heard speaking, or where the best offset lies at
    the edge of what was searched."""
    times = np.arange(len(spoken.crops)) / MODEL_FPS
    speech = float(SilenceGate(ArrayWaveform(spoken.own_sound)).gains(times.tolist()).mean())
    if speech < LEAST_SPEECH:
        raise Dropped("nobody is heard speaking", f"speech in {speech:.0%} of the time")
    score = critic.score(spoken, reach)
    if abs(score.offset) >= reach:
        raise Dropped("offset out of reach", f"{score.offset:+.0f} frames")
    return {"offset": score.offset, "confidence": score.confidence}


class LipLevelCritic:
    """The simple estimate, for where there is no network: lips that move against a level that changes.

    Correlates the speed of the inner-lip gap with the change of the level between 200 and 3500 Hz, at every shift. The
    confidence is the best correlation less the median over the shifts. On real clips of 3 to 10 s that are in sync the
    maximum lies within 2 frames of zero for only half of them, so an offset is believed where it is clearly better than
    everything near zero: then 3 to 8 % of such clips are moved although they should not be, and of clips that are 8
    frames off a third is noticed (74 to 88 % of them rightly). It hardly tells foreign sound from a clip's own (area
    under the curve 0.7 to 0.77). Train a StableSyncNet on the result and prepare again with that.
    """

    def score(self, spoken: Spoken, reach: int) -> SyncScore:
        """See SyncCritic. Offsets are whole frames."""
        from scipy.ndimage import gaussian_filter1d

        gaps = np.array([lip_gap(points) for points in spoken.landmarks])
        speed = np.gradient(gaussian_filter1d(gaps, GAP_SMOOTHING))
        first = max(0, spoken.start - reach - MARGIN)
        sound = spoken.waveform[first * TICK_SAMPLES : (spoken.start + len(gaps) + reach + MARGIN) * TICK_SAMPLES]
        level = np.gradient(gaussian_filter1d(speech_level(sound), LEVEL_SMOOTHING))
        times = (spoken.start - first + np.arange(len(gaps))) / MODEL_FPS
        shifts = np.arange(-reach, reach + 1)
        fits = np.array([_correlation(speed, _at(level, times + shift / MODEL_FPS)) for shift in shifts])
        best = int(np.nanargmax(fits))
        near = float(np.nanmax(fits[abs(shifts) <= IN_SYNC]))
        offset = int(shifts[best]) if fits[best] - near > CLEARER else 0
        return SyncScore(float(offset), float(fits[best] - np.nanmedian(fits)))


def speech_level(waveform: np.ndarray) -> np.ndarray:
    """(samples,) at 16 kHz -> (samples // 160,) log10 power of the speech band, value i centred at 10 i + 5 ms."""
    from scipy.signal import butter, sosfiltfilt

    band = butter(3, SPEECH_BAND, "bandpass", fs=AUDIO_SAMPLE_RATE, output="sos")
    heard = sosfiltfilt(band, waveform.astype(np.float64))
    count = len(heard) // LEVEL_SAMPLES
    power = np.square(heard[: count * LEVEL_SAMPLES]).reshape(count, LEVEL_SAMPLES).mean(axis=1)
    level = np.log10(np.maximum(power, 1e-10))
    return np.maximum(level, np.percentile(level, LOUDEST) - LEVEL_RANGE)


def _at(level: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The level's values at `times` seconds, nan outside the sound."""
    centres = (np.arange(len(level)) + 0.5) * LEVEL_SECONDS
    return np.interp(times, centres, level, left=np.nan, right=np.nan)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, over the values that both have; 0 where nothing changes, nan with too few."""
    there = np.isfinite(a) & np.isfinite(b)
    if there.sum() < LEAST_OVERLAP * len(a):
        return float("nan")
    a, b = a[there] - a[there].mean(), b[there] - b[there].mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0
