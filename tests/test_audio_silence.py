"""The silence gate: known truth on made-up tracks, and real sentences whose word times are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.silence import SilenceGate

RATE = 16_000


def speech_like(seconds: float, dbfs: float = -20.0, seed: int = 0) -> np.ndarray:
    """Syllables at 4 Hz on a voice-like buzz, without any pause; `dbfs` is the level over all of it."""
    t = np.arange(int(seconds * RATE)) / RATE
    buzz = np.sign(np.sin(2 * np.pi * 120 * t)) + 0.3 * np.random.default_rng(seed).standard_normal(len(t))
    samples = buzz * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * t))
    return (samples * 10 ** (dbfs / 20) / np.sqrt(np.mean(samples**2))).astype(np.float32)


def noise(seconds: float, dbfs: float) -> np.ndarray:
    samples = np.random.default_rng(1).standard_normal(int(seconds * RATE))
    return (samples * 10 ** (dbfs / 20)).astype(np.float32)


def gains(waveform: np.ndarray, times) -> np.ndarray:
    return SilenceGate(ArrayWaveform(waveform)).gains(times)


CLOCK = np.arange(0.0, 8.0, 0.04)


@pytest.mark.parametrize("waveform", [np.zeros(3 * RATE), np.full(3 * RATE, 0.2), noise(3.0, -70.0), np.zeros(1)])
def test_silence_is_zero_everywhere(waveform):
    """Digital silence, a constant, a very quiet room, a single sample."""
    assert (gains(waveform, CLOCK) == 0.0).all()


@settings(max_examples=12)
@given(dbfs=st.floats(-42.0, -8.0), seconds=st.floats(0.3, 4.0))
def test_speech_is_one_at_any_level(dbfs, seconds):
    assert (gains(speech_like(seconds, dbfs), np.arange(0.0, seconds, 0.04)) == 1.0).all()


def test_pauses_over_a_noise_floor_close():
    """Speech at -20 dBFS from 2 to 4 s and 6 to 7 s, in a room of -50 dBFS."""
    waveform = noise(8.0, -50.0)
    for start, stop in ((2, 4), (6, 7)):
        waveform[start * RATE : stop * RATE] += speech_like(stop - start)
    gain = gains(waveform, CLOCK)
    inside = ((CLOCK >= 1.9) & (CLOCK <= 4.15)) | ((CLOCK >= 5.9) & (CLOCK <= 7.15))
    far = (CLOCK < 1.75) | ((CLOCK > 4.35) & (CLOCK < 5.75)) | (CLOCK > 7.35)
    assert (gain[inside] == 1.0).all()
    assert (gain[far] == 0.0).all()
    assert np.abs(np.diff(gain)).max() < 0.6, "the gate opens and closes over at least two frames"


def test_a_short_pause_inside_a_word_stays_open():
    waveform = speech_like(2.0)
    waveform[RATE : RATE + int(0.2 * RATE)] = 0.0
    assert (gains(waveform, np.arange(0.0, 2.0, 0.01)) == 1.0).all()


def test_hysteresis_keeps_a_fading_voice():
    """A level between the two thresholds continues speech, but does not begin it."""
    loud, weak = speech_like(2.0, -20.0), noise(2.0, -42.5)
    assert gains(np.concatenate([loud, weak]), [3.5])[0] == 1.0
    assert gains(np.concatenate([weak, loud]), [0.5])[0] == 0.0


def test_a_click_does_not_open():
    waveform = np.concatenate([np.zeros(2 * RATE), speech_like(2.0), np.zeros(2 * RATE)]).astype(np.float32)
    waveform[RATE : RATE + 300] = 0.3
    assert (gains(waveform, np.arange(0.5, 1.6, 0.04)) == 0.0).all()


def test_times_past_the_end_and_any_order():
    waveform = np.concatenate([np.zeros(RATE), speech_like(1.0)]).astype(np.float32)
    assert gains(waveform, [30.0, 1.5, 2.05, 0.0, 2.5]).tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_memory_does_not_grow_with_length():
    class FiveMinutes:
        longest_read = 0

        def __len__(self) -> int:
            return 300 * RATE

        def read(self, start: int, stop: int) -> np.ndarray:
            self.longest_read = max(self.longest_read, stop - start)
            return speech[: stop - start] if (start // RATE) % 30 else np.zeros(stop - start, np.float32)

    speech, source = speech_like(11.0), FiveMinutes()
    gate = SilenceGate(source)
    assert source.longest_read < 11 * RATE
    assert gate._starts.nbytes + gate._stops.nbytes < 1000


def test_words_of_real_sentences_are_not_cut(clips_dir):
    """GRID sentences with word times: open in the words, closed in most of the silence around them."""
    av = pytest.importorskip("av")
    open_share, closed_share = [], []
    for line in (clips_dir / "grid_s1" / "words.tsv").read_text().splitlines()[1:9]:
        name, spans = line.split("\t")
        times = [tuple(map(float, span.split(":")[0].split("-"))) for span in spans.split() if not span.endswith("sil")]
        resampler = av.AudioResampler("flt", "mono", RATE)
        with av.open(str(clips_dir / "grid_s1" / f"{name}.mp4")) as container:
            parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        waveform = np.concatenate(parts)
        clock = np.arange(0.0, len(waveform) / RATE, 0.01)
        gain, (first, last) = gains(waveform, clock), (times[0][0], times[-1][1])
        open_share.append((gain[(clock >= first) & (clock < last)] == 1.0).mean())
        closed_share.append((gain[(clock < first - 0.25) | (clock > last + 0.35)] == 0.0).mean())
    assert np.mean(open_share) > 0.95
    assert np.mean(closed_share) > 0.6
