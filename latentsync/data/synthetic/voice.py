"""A small formant synthesiser after Klatt (1980): a glottal source and noise through time-varying resonators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from latentsync.types import AUDIO_SAMPLE_RATE

STEP_SAMPLES = 40  # the filters stand still for so long: 2.5 ms
STEP_SECONDS = STEP_SAMPLES / AUDIO_SAMPLE_RATE
SPEECH_LEVEL_DBFS = -20.0  # root mean square while somebody speaks
_OVERSAMPLING = 4  # of the glottal pulses, whose sharp closure would alias
_HIGH_FORMANTS = ((3400.0, 220.0), (4300.0, 300.0), (5300.0, 420.0), (6500.0, 600.0))  # Hz: centre, bandwidth


@dataclass(frozen=True)
class Voice:
    """What makes one speaker sound like nobody else."""

    pitch: float  # Hz, median
    formant_scale: float  # 1 = adult male; shorter vocal tracts are larger
    breathiness: float  # 0 .. 1
    open_quotient: float  # share of a period in which the glottis is open
    rate: float  # speaking rate, 1 = usual
    liveliness: float  # depth of the pitch movements, 1 = usual

    @classmethod
    def random(cls, seed: int) -> Voice:
        """A voice that is a function of `seed`."""
        rng = np.random.default_rng([0x401CE, seed])
        high = rng.random() < 0.5
        return cls(
            pitch=float(rng.uniform(165, 240) if high else rng.uniform(88, 145)),
            formant_scale=float(rng.uniform(1.10, 1.22) if high else rng.uniform(0.95, 1.08)),
            breathiness=float(rng.uniform(0.1, 0.7)),
            open_quotient=float(rng.uniform(0.5, 0.72)),
            rate=float(rng.uniform(0.85, 1.15)),
            liveliness=float(rng.uniform(0.7, 1.4)),
        )


@dataclass(frozen=True)
class VoiceTracks:
    """Parameters of the synthesiser, one row every 2.5 ms."""

    pitch: np.ndarray  # (steps,) Hz
    formants: np.ndarray  # (steps, 3) Hz
    voicing: np.ndarray  # (steps,) amplitude
    aspiration: np.ndarray  # (steps,) amplitude
    frication: np.ndarray  # (steps,) amplitude
    noise_centre: np.ndarray  # (steps,) Hz
    noise_width: np.ndarray  # (steps,) Hz
    nasality: np.ndarray  # (steps,) 0 .. 1


def resonator(centre: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Second-order sections (n, 6) of Klatt's resonator with unit gain at 0 Hz (Klatt 1980, eq. 2)."""
    period = 1.0 / AUDIO_SAMPLE_RATE
    c = -np.exp(-2 * np.pi * width * period)
    b = 2 * np.exp(-np.pi * width * period) * np.cos(2 * np.pi * centre * period)
    zero, one = np.zeros_like(b), np.ones_like(b)
    return np.stack([1 - b - c, zero, zero, one, -b, -c], axis=-1)


def synthesize(tracks: VoiceTracks, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """-> waveform (steps * 40,) float32, not yet levelled."""
    samples = len(tracks.pitch) * STEP_SAMPLES
    noise = rng.standard_normal((2, samples))
    glottis = _glottal_flow_derivative(tracks.pitch, voice, rng)
    breath = noise[0] * (0.25 + 0.75 * (glottis > 0))  # breath is strongest while the glottis is open
    source = glottis * _held(tracks.voicing) + 0.06 * breath * (
        _held(tracks.aspiration) * 2.5 + voice.breathiness * 0.5 * _held(tracks.voicing)
    )
    voiced = _filter(source, _vocal_tract(tracks, voice))
    hiss = _filter(2.0 * np.diff(noise[1], prepend=0.0) * _held(tracks.frication), _noise_filter(tracks))
    return (voiced + hiss).astype(np.float32)


def level(waveform: np.ndarray, speaking: np.ndarray) -> np.ndarray:
    """Scale so that the samples where `speaking` (bool, same shape) have -20 dBFS, peaks softened below 1."""
    power = float(np.mean(np.square(waveform[speaking], dtype=np.float64))) if speaking.any() else 0.0
    scaled = waveform * (10 ** (SPEECH_LEVEL_DBFS / 20) / max(np.sqrt(power), 1e-9))
    return (0.98 * np.tanh(scaled / 0.98)).astype(np.float32)


def _held(track: np.ndarray) -> np.ndarray:
    """A track (steps,) as (samples,), straight between its rows."""
    steps = len(track)
    return np.interp(np.arange(steps * STEP_SAMPLES) / STEP_SAMPLES, np.arange(steps) + 0.5, track)


def _glottal_flow_derivative(pitch: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Pulses (samples,) of the KLGLOTT88 shape (Klatt & Klatt 1990): flow = t^2 - t^3 while open; unit power."""
    jitter = np.asarray(signal.lfilter([0.1], [1, -0.9], rng.standard_normal(len(pitch))))
    fine = np.repeat(_held(pitch * (1 + 0.02 * jitter)), _OVERSAMPLING)
    phase = np.cumsum(fine / (AUDIO_SAMPLE_RATE * _OVERSAMPLING)) % 1.0
    t = phase / voice.open_quotient
    slope = np.where(t < 1, 2 * t - 3 * t * t, 0.0)
    pulses = np.asarray(signal.resample_poly(slope, 1, _OVERSAMPLING))
    tilt = 0.1 + 0.45 * voice.breathiness
    return np.asarray(signal.lfilter([1 - tilt], [1, -tilt], pulses)) / 0.4


def _vocal_tract(tracks: VoiceTracks, voice: Voice) -> np.ndarray:
    """Sections (steps, n, 6) of the cascade: three moving formants (damped in nasals), four fixed."""
    steps = len(tracks.pitch)
    scale = voice.formant_scale
    sections = [
        resonator(tracks.formants[:, i] * scale, 60 + 25 * i + 0.03 * tracks.formants[:, i] + 140 * i * tracks.nasality)
        for i in range(3)
    ]
    for centre, width in _HIGH_FORMANTS:
        sections.append(resonator(np.full(steps, min(centre * scale, 7400.0)), np.full(steps, width)))
    return np.stack(sections, axis=1)


def _noise_filter(tracks: VoiceTracks) -> np.ndarray:
    """Sections (steps, 1, 6): a band-pass around the place of frication, about unit power for white noise."""
    band = resonator(tracks.noise_centre, tracks.noise_width)
    omega = 2 * np.pi * tracks.noise_centre / AUDIO_SAMPLE_RATE
    turn = np.exp(-1j * omega)
    at_centre = np.abs(1 + band[:, 4] * turn + band[:, 5] * turn**2) / (
        2 * np.sin(omega / 2)
    )  # noise is differentiated
    band[:, 0] = at_centre * np.sqrt(AUDIO_SAMPLE_RATE / (np.pi * np.minimum(tracks.noise_width, 3000.0)))
    return band[:, None]


def _filter(source: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Run `source` (steps * 40,) through all-pole sections (steps, n, 6) that change every 40 samples.

    What is kept from step to step are past outputs, not the filter's inner state: that state holds products with
    the old coefficients, and every change of them would click.
    """
    out = np.empty_like(source)
    state, before = np.zeros((sections.shape[1], 2)), sections[0]
    for step, sos in enumerate(sections):
        last = -state[:, 1] / before[:, 5]
        last_but_one = -(state[:, 0] + before[:, 4] * last) / before[:, 5]
        state = np.stack([-sos[:, 4] * last - sos[:, 5] * last_but_one, -sos[:, 5] * last], axis=1)
        span = slice(step * STEP_SAMPLES, (step + 1) * STEP_SAMPLES)
        out[span], state = signal.sosfilt(sos, source[span], zi=state)
        before = sos
    return out
