"""Mel spectrograms: Whisper's log-mel, a position-independent one for small encoders, and SyncNet's; all streaming."""

from __future__ import annotations

import functools
from collections.abc import Sized

import numpy as np
import torch

from latentsync.audio.features import ArrayWaveform, WaveformSource
from latentsync.types import AUDIO_SAMPLE_RATE

N_MELS = 80
N_FFT = 400  # samples, 25 ms (openai/whisper)
HOP = 160  # samples, 10 ms
COLUMN_RATE = AUDIO_SAMPLE_RATE // HOP  # 100 columns a second
SCAN_COLUMNS = 3000  # columns computed at once when a whole file is scanned: 30 s
POWER_FLOOR = 1e-10
WHISPER_RANGE = 8.0  # log10 power below the file's maximum that is kept

SYNCNET_N_FFT = 800  # samples, 50 ms
SYNCNET_HOP = 200  # samples, 12.5 ms
SYNCNET_RATE = AUDIO_SAMPLE_RATE // SYNCNET_HOP  # 80 columns a second
SYNCNET_BAND = (55.0, 7600.0)  # Hz
PRE_EMPHASIS = 0.97
SYNCNET_FLOOR = 1e-5  # magnitude, -100 dB
SYNCNET_REFERENCE_DB = 20.0
SYNCNET_RANGE_DB = 100.0
SYNCNET_PEAK = 4.0  # the mel lies in [-4, 4]

LOG_MEL_FLOOR = -7.0  # log10 power, where the room's noise lies in most recordings
LOG_MEL_CENTRE = -3.0  # log10 power; clear speech spans about -6 to 1
LOG_MEL_SPAN = 4.0  # log10 power that becomes 1


@functools.lru_cache(maxsize=8)
def mel_filters(n_fft: int, n_mels: int, low_hz: float, high_hz: float) -> torch.Tensor:
    """(n_mels, n_fft // 2 + 1) float32 triangles on Slaney's scale with his area norm (librosa's defaults)."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        n_fft // 2 + 1, n_mels, low_hz, high_hz, AUDIO_SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(filters.astype(np.float32)).T.contiguous()


def _spectrum(samples: np.ndarray, n_fft: int, hop: int) -> torch.Tensor:
    """Magnitudes (n_fft // 2 + 1, columns) of the Hann-windowed frames that lie wholly inside `samples`."""
    window = torch.hann_window(n_fft)
    waveform = torch.from_numpy(np.ascontiguousarray(samples))
    return torch.stft(waveform, n_fft, hop, window=window, center=False, return_complex=True).abs()


def _log_power(samples: np.ndarray, n_mels: int = N_MELS) -> torch.Tensor:
    power = mel_filters(N_FFT, n_mels, 0.0, AUDIO_SAMPLE_RATE / 2) @ _spectrum(samples, N_FFT, HOP) ** 2
    return power.clamp(min=POWER_FLOOR).log10()


class LogMel:
    """Log-mel of a source against a fixed level: a column depends on the 25 ms around it and on nothing else."""

    def __init__(self, source: WaveformSource):
        self._source = source
        self.columns = 2 * max(1, -(-len(source) // (2 * HOP)))  # even: two columns a row at 50 Hz, all audio covered

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Columns `start` to `stop`: (80, stop - start) float32, about [-1, 1.3]; column c is centred at 10 c ms.

        `(max(log10 power, -7) + 3) / 4`; outside the waveform the samples are zero.
        """
        samples = self._source.read(start * HOP - N_FFT // 2, (stop - 1) * HOP + N_FFT // 2)
        return (_log_power(samples).clamp(min=LOG_MEL_FLOOR) - LOG_MEL_CENTRE) / LOG_MEL_SPAN


def log_mel(waveform: np.ndarray) -> torch.Tensor:
    """waveform: (samples,) float32 at 16 kHz -> (80, columns) at 100 Hz, columns = 2 * ceil(samples / 320).

    Position independent (see `LogMel`): a slice of the answer is the answer for that slice of the waveform,
    except for the columns within 20 ms of the cut.
    """
    mel = LogMel(ArrayWaveform(waveform))
    return mel.read(0, mel.columns)


class WhisperLogMel:
    """Whisper's log-mel of a whole source: its range hangs on the file's maximum, found by a first streaming pass."""

    def __init__(self, source: WaveformSource, n_mels: int = N_MELS):
        """n_mels: 80, or 128 for the largest networks. Audio too short for one column counts as padded with zeros."""
        self._source, self._n_mels = source, n_mels
        self._samples = max(len(source), N_FFT // 2 + 1)
        self.columns = self._samples // HOP
        scan = range(0, self.columns, SCAN_COLUMNS)
        self._maximum = max(float(self._columns(a, min(a + SCAN_COLUMNS, self.columns)).max()) for a in scan)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Columns `start` to `stop`: (n_mels, stop - start) float32; past the file's end they are zero."""
        out = torch.zeros(self._n_mels, stop - start)
        last = min(stop, self.columns)
        if start < last:
            log_power = self._columns(start, last).clamp(min=self._maximum - WHISPER_RANGE)
            out[:, : last - start] = (log_power + 4.0) / 4.0
        return out

    def _columns(self, start: int, stop: int) -> torch.Tensor:
        return _log_power(self._reflected(start * HOP - N_FFT // 2, (stop - 1) * HOP + N_FFT // 2), self._n_mels)

    def _reflected(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop` of the waveform mirrored at its first and its last sample."""
        end = self._samples
        before = self._source.read(1, 1 + max(0, -start))[::-1]
        inside = self._source.read(max(0, start), min(stop, end))
        after = self._source.read(end - 1 - max(0, stop - end), end - 1)[::-1]
        return np.concatenate([before, inside, after])


def whisper_log_mel(waveform: np.ndarray, n_mels: int = N_MELS) -> torch.Tensor:
    """waveform: (samples,) float32 at 16 kHz -> (n_mels, samples // 160) at 100 Hz (openai/whisper `audio.py`).

    `(max(log10 power, maximum of the file - 8) + 4) / 4`.
    """
    mel = WhisperLogMel(ArrayWaveform(waveform), n_mels)
    return mel.read(0, mel.columns)


def syncnet_mel(waveform: np.ndarray) -> torch.Tensor:
    """waveform: (samples,) float32 at 16 kHz -> (80, 1 + samples // 200) at 80 Hz in [-4, 4], for SyncNet.

    Pre-emphasis, magnitudes of frames centred with zeros at the ends, decibels (Wav2Lip's `audio.py`).
    """
    return syncnet_columns(waveform, 0, syncnet_length(waveform))


def syncnet_length(waveform: Sized) -> int:
    """How many columns `syncnet_mel` has."""
    return 1 + len(waveform) // SYNCNET_HOP


def syncnet_columns(waveform: np.ndarray, first: int, count: int) -> torch.Tensor:
    """(80, count): the columns of `syncnet_mel` from `first` on; no other part of the waveform is looked at."""
    start, stop = first * SYNCNET_HOP - SYNCNET_N_FFT // 2, (first + count - 1) * SYNCNET_HOP + SYNCNET_N_FFT // 2
    samples = ArrayWaveform(waveform).read(start - 1, stop)
    emphasised = samples[1:] - PRE_EMPHASIS * samples[:-1]
    emphasised[max(0, len(waveform) - start) :] = 0.0  # the zeros at the end come after the pre-emphasis
    magnitude = mel_filters(SYNCNET_N_FFT, N_MELS, *SYNCNET_BAND) @ _spectrum(emphasised, SYNCNET_N_FFT, SYNCNET_HOP)
    decibels = 20.0 * magnitude.clamp(min=SYNCNET_FLOOR).log10() - SYNCNET_REFERENCE_DB
    scaled = 2 * SYNCNET_PEAK * (decibels + SYNCNET_RANGE_DB) / SYNCNET_RANGE_DB - SYNCNET_PEAK
    return scaled.clamp(-SYNCNET_PEAK, SYNCNET_PEAK)
