"""The speech embedding: its spectrogram against librosa, its rows on the clock of features, files that are none."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.speech_embedding import COLUMNS, SAMPLES_A_ROW, Decibels, SpeechEmbedding
from latentsync.hub import load_audio_encoder
from latentsync.hub.tensors import module_digest
from latentsync.types import CheckpointError

FILE = "openwakeword_google_speech_embedding.onnx"


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones that come and go, and noise."""
    time = np.arange(round(16_000 * seconds)) / 16_000
    tone = np.sin(2 * np.pi * (200 + 900 * np.sin(3 * time)) * time) * (np.sin(9 * time) > 0)
    return (0.2 * tone + 0.01 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def test_the_spectrogram_is_librosas() -> None:
    waveform = sound(1.0)
    power = librosa.feature.melspectrogram(
        y=32_768 * waveform, sr=16_000, n_fft=512, win_length=400, hop_length=160, n_mels=32, fmin=60, fmax=3800,
        center=True, pad_mode="constant",
    )  # fmt: skip
    expected = librosa.power_to_db(power[:, :100], ref=1.0, amin=1e-10, top_db=80.0).T
    np.testing.assert_allclose(Decibels(ArrayWaveform(waveform)).read(0, 100), expected, atol=2e-2)


@pytest.fixture(scope="module")
def embedding(weights_dir) -> SpeechEmbedding:
    found = load_audio_encoder(weights_dir / FILE)
    assert isinstance(found, SpeechEmbedding)
    return found


def test_rows_follow_the_sound_and_look_at_their_own_surroundings_only(embedding) -> None:
    waveform = sound(2.4)
    rows = embedding.encode(waveform)
    assert rows.shape == (120, 1, 96) and rows.isfinite().all()
    late = embedding.encode(np.concatenate([np.zeros(3 * SAMPLES_A_ROW, np.float32), waveform]))
    inner = slice(COLUMNS // 4 + 2, 120 - COLUMNS // 4 - 2)
    torch.testing.assert_close(late[3:][inner], rows[inner], atol=2e-2, rtol=1e-2)
    changed = waveform.copy()
    changed[: 16_000 // 2] = 0.1 * sound(0.5, seed=1)
    other = embedding.encode(changed)
    reached = (other - rows).abs().amax(dim=(1, 2)) > 1e-2
    # Near the end zeros are heard, whose floor hangs on the whole file's maximum.
    assert reached[:25].all() and not reached[25 + COLUMNS // 4 + 3 : 95].any()
    part = embedding.stream(ArrayWaveform(waveform)).rows(40, 60)
    torch.testing.assert_close(part, rows[40:60], atol=1e-3, rtol=1e-3)


def test_its_digest_is_the_files(embedding, tmp_path) -> None:
    assert module_digest(embedding) != module_digest(torch.nn.Linear(2, 2))
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no network")
    with pytest.raises(CheckpointError, match=r"wrong\.onnx is no network that OpenCV can run"):
        load_audio_encoder(wrong)
