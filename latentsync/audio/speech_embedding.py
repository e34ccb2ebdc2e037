"""Google's speech embedding (Lin et al. 2020, "Training keyword spotters with limited and synthesized speech data").

96 numbers of the 0.77 s around each row, from the ONNX file that openWakeWord distributes; OpenCV runs it. It was
trained on speech alone, so that it knows nothing of mouths.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from latentsync.audio.features import FeatureStream, StreamedEncoder, WaveformSource, local_stream
from latentsync.audio.mel import COLUMN_RATE, HOP, SCAN_COLUMNS, mel_filters
from latentsync.types import AUDIO_SAMPLE_RATE, FEATURE_RATE, CheckpointError

N_FFT, WINDOW = 512, 400  # samples: 25 ms within the transform's 32
BANDS, BAND = 32, (60.0, 3800.0)  # Hz
POWER_FLOOR = 1e-10
RANGE_DB = 80.0  # below the file's maximum that is kept
FULL_SCALE = 32_768.0  # the network was trained on samples of 16 bits
COLUMNS = 76  # of a window
COLUMNS_A_ROW = int(COLUMN_RATE / FEATURE_RATE)
SAMPLES_A_ROW = int(AUDIO_SAMPLE_RATE / FEATURE_RATE)
WIDTH = 96
AT_ONCE = 50  # windows


class Decibels:
    """The network's mel spectrogram of a whole source: its floor hangs on the file's maximum, found by a first pass."""

    def __init__(self, source: WaveformSource) -> None:
        self._source = source
        columns = max(1, math.ceil(len(source) / HOP))
        scan = range(0, columns, SCAN_COLUMNS)
        self._maximum = max(float(self._columns(a, min(a + SCAN_COLUMNS, columns)).max()) for a in scan)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Columns `start` to `stop`: (stop - start, 32) decibels; column c is centred at 10 c ms."""
        return self._columns(start, stop).clamp(min=self._maximum - RANGE_DB)

    def _columns(self, start: int, stop: int) -> torch.Tensor:
        samples = self._source.read(start * HOP - N_FFT // 2, (stop - 1) * HOP + N_FFT // 2) * FULL_SCALE
        waveform = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
        spectrum = torch.stft(
            waveform, N_FFT, HOP, WINDOW, torch.hann_window(WINDOW), center=False, return_complex=True
        )
        power = mel_filters(N_FFT, BANDS, *BAND) @ spectrum.abs() ** 2
        return 10 * power.clamp(min=POWER_FLOOR).log10().T


class SpeechEmbedding(StreamedEncoder):
    """The network as an audio encoder: one level of 96 numbers, row k centred at 20 k ms."""

    def __init__(self, path: Path) -> None:
        """path: the `.onnx` file. CheckpointError when it is no such network."""
        super().__init__()
        import cv2

        self.width, self.levels, self.rate = WIDTH, 1, FEATURE_RATE
        content = np.frombuffer(path.read_bytes(), np.uint8)
        self.register_buffer("file", torch.from_numpy(content.copy()))  # its tensors, for all that names networks
        try:
            self._network = cv2.dnn.readNetFromONNX(content)
            found = self._run(np.zeros((1, COLUMNS, BANDS, 1), np.float32)).shape
        except cv2.error as error:
            raise CheckpointError(f"{path} is no network that OpenCV can run: take the original file") from error
        if found != (1, WIDTH):
            raise CheckpointError(
                f"{path} gives {found} where (1, {WIDTH}) is wanted: take the speech embedding's file"
            )

    def _run(self, windows: np.ndarray) -> np.ndarray:
        """(n, 76, 32, 1) -> (n, 96)."""
        self._network.setInput(windows)
        answer = self._network.forward()
        return answer.reshape(len(windows), -1).copy()  # OpenCV may use its memory again

    def stream(self, source: WaveformSource) -> FeatureStream:
        """Rows of `source` on demand; reads all of it once for the spectrogram's maximum."""
        mel, steps = Decibels(source), max(1, math.ceil(len(source) / SAMPLES_A_ROW))

        def rows(start: int, stop: int) -> torch.Tensor:
            parts = [self._rows(mel, at, min(at + AT_ONCE, stop)) for at in range(start, stop, AT_ONCE)]
            return torch.cat(parts)[:, None]

        return local_stream(steps, rows, margin=0)

    def _rows(self, mel: Decibels, start: int, stop: int) -> torch.Tensor:
        before = COLUMNS // 2
        columns = mel.read(COLUMNS_A_ROW * start - before, COLUMNS_A_ROW * (stop - 1) - before + COLUMNS) / 10 + 2
        windows = columns.unfold(0, COLUMNS, COLUMNS_A_ROW).transpose(1, 2)[..., None]
        return torch.from_numpy(self._run(np.ascontiguousarray(windows.numpy())))
