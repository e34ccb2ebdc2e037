"""Audio: pieces and their cross-fades, windows on the video clock, the three mels against stored answers."""

from __future__ import annotations

from fractions import Fraction

import librosa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import WhisperFeatureExtractor

from latentsync.audio import mel
from latentsync.audio.encoders import NormalisedWaveform
from latentsync.audio.features import ArrayWaveform, FeatureStream, PieceLayout, local_stream
from latentsync.audio.windows import WINDOW_ROWS, audio_windows, centre_step, window_steps

SHORT_LENGTHS = (0, 1, 100, 399, 1600)


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(int(seconds * 16_000))
    return (level * samples).astype(np.float32)


def numbered_rows(start: int, stop: int) -> torch.Tensor:
    return torch.arange(start, stop, dtype=torch.float32)[:, None, None].expand(-1, 2, 3)


@pytest.fixture(scope="module")
def parity_audio(parity_dir) -> np.ndarray:
    return soundfile.read(parity_dir / "audio.wav", dtype="float32")[0]


class TestArrayWaveform:
    def test_reads_are_zero_outside(self):
        source = ArrayWaveform(np.arange(1, 6))
        assert source.read(-2, 8).tolist() == [0, 0, 1, 2, 3, 4, 5, 0, 0, 0]
        assert source.read(7, 9).tolist() == [0, 0]
        assert source.read(-3, -1).tolist() == [0, 0]
        assert source.read(1, 1).shape == (0,)

    def test_stereo_is_refused(self):
        with pytest.raises(ValueError, match=r"\(5, 2\)"):
            ArrayWaveform(np.zeros((5, 2)))


layouts = st.builds(
    lambda fade, hop, rest: PieceLayout(rows=fade + hop + fade + rest, hop=hop + fade, fade=fade),
    st.integers(0, 4),
    st.integers(1, 6),
    st.integers(0, 5),
)


class TestStream:
    @given(layouts, st.integers(1, 60), st.data())
    @settings(max_examples=50)
    def test_rows_come_in_order_and_the_ends_repeat(self, layout, steps, data):
        """Pieces that agree must blend into exactly what each says: the weights add up to one everywhere."""
        stream = FeatureStream(steps, layout, numbered_rows)
        start = data.draw(st.integers(-5, steps + 5))
        stop = data.draw(st.integers(start + 1, steps + 10))
        expected = torch.arange(start, stop).clamp(0, steps - 1).float()
        torch.testing.assert_close(stream.rows(start, stop)[:, 1, 2], expected, atol=1e-4, rtol=0)

    @given(layouts, st.integers(1, 60))
    @settings(max_examples=50)
    def test_whole_pieces_cover_all_rows_without_waste(self, layout, steps):
        spans = [layout.piece(index, steps) for index in range(layout.count(steps))]
        assert spans[0][0] == 0 and spans[-1][1] == steps
        assert all(stop - start == layout.rows for start, stop in spans[:-1])
        assert all(stop < steps for _, stop in spans[:-1]), "a piece was begun for rows that the one before holds"

    def test_hands_over_linearly_at_the_end_of_the_earlier_piece(self):
        """Thirty-second pieces: pure until row 1450 (29 s), all of the second from row 1500 (30 s)."""
        layout = PieceLayout(rows=1500, hop=1000, fade=50)
        stream = FeatureStream(3000, layout, lambda start, stop: torch.full((stop - start, 1, 1), float(start)))
        rows = stream.rows(0, 3000).flatten()
        assert (rows[:1451] == 0).all() and (rows[1500:2451] == 1000).all() and (rows[2500:] == 2000).all()
        torch.testing.assert_close(rows[1450:1501], torch.linspace(0, 1000, 51))

    def test_one_piece_has_no_joint(self):
        stream = FeatureStream(1500, PieceLayout(rows=1500, hop=1000, fade=50), numbered_rows)
        assert torch.equal(stream.rows(0, 1500), numbered_rows(0, 1500))

    def test_no_rows_is_an_error(self):
        with pytest.raises(ValueError, match="rows 4 to 4"):
            FeatureStream(9, PieceLayout(5, 5, 0), numbered_rows).rows(4, 4)


class TestLocalStream:
    """A network with a limited field: the stream must equal one pass over the whole waveform."""

    @pytest.fixture(scope="class")
    def network(self) -> torch.nn.Module:
        torch.manual_seed(0)
        layers = [torch.nn.Conv1d(80, 8, 5, padding=2), torch.nn.GELU(), torch.nn.Conv1d(8, 8, 3, stride=2, padding=1)]
        return torch.nn.Sequential(*layers, torch.nn.GELU(), torch.nn.Conv1d(8, 8, 5, padding=2))

    def rows_of(self, network: torch.nn.Module, waveform: np.ndarray):
        columns = mel.LogMel(ArrayWaveform(waveform))

        @torch.no_grad()
        def compute(start: int, stop: int) -> torch.Tensor:
            return network(columns.read(2 * start, 2 * stop)[None])[0].T[:, None]

        return columns.columns // 2, compute

    @given(seconds=st.floats(0.0, 4.0), piece_rows=st.integers(1, 90), step=st.integers(1, 60))
    @settings(max_examples=15)
    def test_equals_the_whole_file(self, network, seconds, piece_rows, step):
        steps, compute = self.rows_of(network, noise(seconds))
        stream = local_stream(steps, compute, margin=4, piece_rows=piece_rows)
        rows = torch.cat([stream.rows(start, min(start + step, steps)) for start in range(0, steps, step)])
        torch.testing.assert_close(rows, compute(0, steps), atol=1e-5, rtol=0)

    def test_a_margin_too_small_shows(self, network):
        steps, compute = self.rows_of(network, noise(2.0))
        rows = local_stream(steps, compute, margin=1, piece_rows=20).rows(0, steps)
        assert (rows - compute(0, steps)).abs().max() > 1e-3


class HourOfNoise:
    """A source of an hour that costs nothing to read and remembers how much was asked for at once."""

    def __init__(self, seconds: float = 3600.0):
        self._samples, self._length, self.longest_read = noise(60.0), int(seconds * 16_000), 0

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> np.ndarray:
        self.longest_read = max(self.longest_read, stop - start)
        return self._samples[: stop - start]


class TestMemory:
    def test_an_hour_keeps_two_pieces(self):
        source = HourOfNoise()
        columns = mel.LogMel(source)
        stream = local_stream(
            columns.columns // 2, lambda start, stop: columns.read(2 * start, 2 * stop)[:, ::2].T[:, None], margin=4
        )
        assert len(stream) == 3600 * 50
        for second in range(0, 3600, 41):
            assert audio_windows(stream, [second, second + 0.04]).shape == (2, WINDOW_ROWS, 80)
            assert sum(len(piece) for piece in stream._pieces.values()) <= 2 * 500
        assert source.longest_read < 11 * 16_000

    @pytest.mark.parametrize("scanned", [mel.WhisperLogMel, NormalisedWaveform])
    def test_a_first_pass_reads_in_blocks(self, scanned):
        source = HourOfNoise(seconds=150.0)
        scanned(source)
        assert source.longest_read < 31 * 16_000

    def test_rising_windows_compute_every_piece_once(self):
        begun = []

        def compute(start: int, stop: int) -> torch.Tensor:
            begun.append(start)
            return numbered_rows(start, stop)

        stream = FeatureStream(6000, PieceLayout(rows=1500, hop=1000, fade=50), compute)
        audio_windows(stream, [frame / 5 for frame in range(600)])
        assert begun == [0, 1000, 2000, 3000, 4000, 5000]


class TestWindows:
    def test_the_ends_repeat(self):
        assert window_steps(0.0, 100).tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
        assert window_steps(97 / 50, 100).tolist() == [93, 94, 95, 96, 97, 98, 99, 99, 99, 99]

    @pytest.mark.parametrize("fps", ["24000/1001", "24", "25", "30000/1001", "30", "50", "60", "2213/100"])
    def test_the_centre_is_the_published_one_at_any_rate(self, fps):
        """`int(i * 50 / fps)`, in whole numbers, although the frame times are rounded."""
        rate = Fraction(fps)
        for frame in (*range(200), *range(100_000, 100_200)):
            assert centre_step(float(frame / rate)) == frame * 50 // rate

    @given(st.floats(0, 30), st.integers(1, 200))
    @settings(max_examples=30)
    def test_windows_are_the_rows_at_their_steps(self, time, steps):
        """Also for audio shorter than a window and for times past its end."""
        stream = FeatureStream(steps, PieceLayout(rows=50, hop=30, fade=5), numbered_rows)
        window = audio_windows(stream, [time])
        assert window.shape == (1, 2 * WINDOW_ROWS, 3)
        expected = window_steps(time, steps).float().repeat_interleave(2)  # step-major: levels run fastest
        torch.testing.assert_close(window[0, :, 0], expected, atol=1e-4, rtol=0)


class TestWhisperMel:
    @pytest.mark.parametrize("samples", [529_600, 12_345, 333, 201])
    def test_equals_transformers(self, parity_audio, samples):
        extractor, waveform = WhisperFeatureExtractor(), parity_audio[:samples]
        theirs = extractor(waveform, sampling_rate=16_000, truncation=False, padding="longest", return_tensors="pt")
        torch.testing.assert_close(mel.whisper_log_mel(waveform), theirs.input_features[0], atol=1e-6, rtol=0)

    def test_streamed_columns_equal_the_whole(self):
        waveform = noise(4.0)
        waveform[40_000:41_000] *= 9  # the maximum lies far from the first column
        streamed = mel.WhisperLogMel(ArrayWaveform(waveform))
        parts = torch.cat([streamed.read(start, min(start + 37, 400)) for start in range(0, 400, 37)], dim=1)
        torch.testing.assert_close(parts, mel.whisper_log_mel(waveform), atol=1e-6, rtol=0)
        assert (streamed.read(390, 450)[:, 10:] == 0).all(), "past the end the normalised mel is zero"

    def test_128_bands(self):
        assert mel.whisper_log_mel(noise(0.5), n_mels=128).shape == (128, 50)


class TestLogMel:
    def test_a_slice_does_not_know_where_it_was_cut(self):
        waveform = noise(3.0)
        waveform[:8000] *= 8  # a loud beginning must not change what follows
        whole, part = mel.log_mel(waveform), mel.log_mel(waveform[16_000:32_000])
        torch.testing.assert_close(part[:, 2:-2], whole[:, 102:198], atol=1e-5, rtol=0)

    def test_values_are_whispers_before_the_range_is_cut(self):
        """Same log power: (whisper * 4 - 4) and (ours * 4 - 3) agree where neither is clipped."""
        waveform = noise(1.0)
        whisper, ours = mel.whisper_log_mel(waveform) * 4 - 4, mel.log_mel(waveform) * 4 - 3
        torch.testing.assert_close(ours[:, 2:98], whisper[:, 2:98], atol=1e-4, rtol=0)

    def test_silence_is_the_lowest_value(self):
        assert (mel.log_mel(np.zeros(1600, np.float32)) == -1.0).all()


class TestSyncNetMel:
    def test_parity(self, parity_audio, parity_dir):
        stored = load_file(parity_dir / "mel_io.safetensors")
        ours = mel.syncnet_mel(parity_audio)
        assert ours.shape == tuple(stored["shape"].tolist())
        torch.testing.assert_close(ours[:, :600], stored["mel"], atol=1e-4, rtol=0)

    def test_librosa(self):
        waveform = noise(1.0, seed=3)[:4_321]
        emphasised = np.append(waveform[:1], waveform[1:] - 0.97 * waveform[:-1])
        spectrum = librosa.stft(emphasised, n_fft=800, hop_length=200, pad_mode="constant")
        bands = librosa.filters.mel(sr=16_000, n_fft=800, n_mels=80, fmin=55, fmax=7600) @ np.abs(spectrum)
        expected = np.clip(8 * (20 * np.log10(np.maximum(1e-5, bands)) + 80) / 100 - 4, -4, 4)
        np.testing.assert_allclose(mel.syncnet_mel(waveform).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("samples", SHORT_LENGTHS)
def test_the_shortest_audio_has_finite_columns(samples):
    waveform = noise(0.1)[:samples]
    whisper, ours, syncnet = mel.whisper_log_mel(waveform), mel.log_mel(waveform), mel.syncnet_mel(waveform)
    assert whisper.shape == (80, max(1, samples // 160))
    assert ours.shape == (80, 2 * max(1, -(-samples // 320)))
    assert syncnet.shape == (80, 1 + samples // 200)
    assert all(torch.isfinite(values).all() for values in (whisper, ours, syncnet))
