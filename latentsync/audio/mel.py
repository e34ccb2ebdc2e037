"""Mel spectrograms: Whisper's log-mel, a position-independent one for small encoders, and SyncNet's; all streaming."""

from __future__ import annotations

import functools

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
