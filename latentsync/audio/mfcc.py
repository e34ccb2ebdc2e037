"""MFCC as SyncNet hears them: the defaults of the package python_speech_features 0.6, in numpy and scipy.

Frames of 25 ms every 10 ms without a window function, pre-emphasis 0.97, a 512-point power spectrum, 26 triangles on
the HTK mel scale from 0 to 8 kHz, logarithm, an orthonormal DCT-II of which 13 values are kept, liftering by 22; the
first value is the logarithm of the frame's energy.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from latentsync.types import AUDIO_SAMPLE_RATE

COEFFICIENTS = 13
FILTERS = 26
FRAME = 400  # samples, 25 ms
STEP = 160  # samples, 10 ms: 100 columns a second
N_FFT = 512
PRE_EMPHASIS = 0.97
LIFTER = 22
INT16_SCALE = 32768  # the public evaluation reads 16-bit files, whose levels go into the first value
FLOOR = np.finfo(float).eps  # in place of an energy of zero


def mfcc(waveform: np.ndarray) -> np.ndarray:
    """waveform: (samples,) float in [-1, 1] at 16 kHz -> (13, columns) float64, column c from sample 160 c on.

    columns = 1 + ceil((samples - 400) / 160), the last one filled with zeros; one column of shorter sound. A column
    depends on its own 400 samples and the one before them, so a long waveform may be cut anywhere.
    """
    samples = np.clip(np.rint(np.asarray(waveform, np.float64) * INT16_SCALE), -INT16_SCALE, INT16_SCALE - 1)
    emphasised = np.append(samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1])
    columns = 1 + max(0, -(-(len(samples) - FRAME) // STEP))
    padded = np.pad(emphasised, (0, (columns - 1) * STEP + FRAME - len(samples)))
    frames = sliding_window_view(padded, FRAME)[::STEP]
    power = np.abs(np.fft.rfft(frames, N_FFT)) ** 2 / N_FFT
    energy = power.sum(axis=1)
    return _cepstrum(power @ _triangles().T, energy).T


def _cepstrum(bands: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """(columns, 13) of filtered powers (columns, 26) and energies (columns,)."""
    from scipy.fft import dct

    cepstrum = np.asarray(dct(np.log(np.where(bands == 0, FLOOR, bands)), type=2, axis=1, norm="ortho"))
    kept = cepstrum[:, :COEFFICIENTS]
    kept *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    kept[:, 0] = np.log(np.where(energy == 0, FLOOR, energy))
    return kept


@functools.lru_cache(maxsize=1)
def _triangles() -> np.ndarray:
    """(26, 257) triangles between whole bins of the spectrum, each with a peak of 1."""
    edges = 700 * (10 ** (np.linspace(0, _mel(AUDIO_SAMPLE_RATE / 2), FILTERS + 2) / 2595) - 1)
    bins = np.floor((N_FFT + 1) * edges / AUDIO_SAMPLE_RATE)
    low, peak, high = (bins[first : first + FILTERS, None] for first in range(3))
    at = np.arange(N_FFT // 2 + 1)
    rising, falling = (at - low) / (peak - low), (high - at) / (high - peak)
    return np.where((low <= at) & (at < peak), rising, np.where((peak <= at) & (at < high), falling, 0.0))


def _mel(hertz: float) -> float:
    return 2595 * np.log10(1 + hertz / 700)
