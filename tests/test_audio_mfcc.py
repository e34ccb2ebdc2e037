"""MFCC against the package's algorithm written out in loops, and what follows from it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from latentsync.audio.mfcc import mfcc


def by_the_book(samples: np.ndarray) -> np.ndarray:
    """python_speech_features 0.6, `mfcc(samples, 16000)`, sample by sample: (columns, 13)."""
    emphasised = [float(samples[0])] + [float(b) - 0.97 * float(a) for a, b in pairwise(samples)]
    count = 1 if len(samples) <= 400 else 1 + math.ceil((len(samples) - 400) / 160)
    emphasised += [0.0] * ((count - 1) * 160 + 400 - len(samples))
    top = 2595 * math.log10(1 + 8000 / 700)
    edges = [math.floor(513 * 700 * (10 ** (top * k / 27 / 2595) - 1) / 16000) for k in range(28)]
    rows = []
    for column in range(count):
        spectrum = np.fft.fft(np.array(emphasised[160 * column : 160 * column + 400]), 512)[:257]
        power = np.abs(spectrum) ** 2 / 512
        bands = []
        for low, peak, high in zip(edges, edges[1:], edges[2:], strict=False):
            rising = sum(power[k] * (k - low) / (peak - low) for k in range(low, peak))
            falling = sum(power[k] * (high - k) / (high - peak) for k in range(peak, high))
            bands.append(math.log(rising + falling or np.finfo(float).eps))
        row = []
        for n in range(13):
            summed = sum(band * math.cos(math.pi * n * (2 * k + 1) / 52) for k, band in enumerate(bands))
            scale = math.sqrt(1 / 26) if n == 0 else math.sqrt(2 / 26)
            row.append(scale * summed * (1 + 11 * math.sin(math.pi * n / 22)))
        row[0] = math.log(float(power.sum()) or np.finfo(float).eps)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 560, 561, 2000])
def test_it_is_the_public_algorithm(samples: int) -> None:
    rng = np.random.default_rng(samples)
    heard = rng.integers(-9000, 9000, samples).astype(np.int16)
    found = mfcc(heard.astype(np.float32) / 32768)
    np.testing.assert_allclose(found, by_the_book(heard.astype(np.float64)).T, rtol=1e-9, atol=1e-9)


def test_silence_is_finite_and_sixteen_bits_are_kept() -> None:
    assert np.isfinite(mfcc(np.zeros(1000, np.float32))).all()
    loud = mfcc(np.array([2.0, -2.0] * 300, np.float32))  # beyond full scale: as a 16-bit file has it
    np.testing.assert_array_equal(loud, mfcc(np.array([1.0, -1.0] * 300, np.float32)))


def test_a_long_waveform_may_be_cut_anywhere() -> None:
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    whole, later = mfcc(waveform), mfcc(waveform[3200:])
    np.testing.assert_allclose(later[:, 1:-1], whole[:, 21:-1], rtol=1e-12)
