"""Sound in: the waveform against independent resampling, its place, and what is wrong with files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from media_clips import lag_seconds, make_clip, make_wav, noise_sound

from latentsync.media.audio import AudioSource, read_waveform, to_mono, write_wav
from latentsync.types import AUDIO_SAMPLE_RATE, InputError


def whole(path: Path, **options) -> np.ndarray:
    with read_waveform(path, **options) as waveform:
        return waveform.read(0, len(waveform))


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_waveform_is_the_mono_resampled_file(tmp_path: Path, rate: int, channels: int):
    path = make_wav(tmp_path / "a.wav", 1.3, rate, channels)
    stored, _ = soundfile.read(path, always_2d=True)
    expected = soxr.resample(stored.mean(axis=1), rate, AUDIO_SAMPLE_RATE)
    heard = whole(path)
    assert heard.dtype == np.float32 and abs(len(heard) - len(expected)) <= 1
    size = min(len(heard), len(expected))
    assert np.abs(heard[:size] - expected[:size]).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 0.01),
        ("a.wav", "PCM_24", 1e-4),
        ("a.wav", "PCM_32", 1e-4),
        ("a.wav", "FLOAT", 1e-4),
        ("a.wav", "DOUBLE", 1e-4),
        ("a.flac", "PCM_24", 1e-4),
    ],
)
def test_sample_formats_have_one_full_scale(tmp_path: Path, name: str, subtype: str, tolerance: float):
    sound = noise_sound(0.3, AUDIO_SAMPLE_RATE)
    soundfile.write(tmp_path / name, sound, AUDIO_SAMPLE_RATE, subtype=subtype)
    assert np.abs(whole(tmp_path / name) - sound[:, 0]).max() < tolerance


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp3", "libmp3lame", 44_100),
        ("a.m4a", "aac", 44_100),
        ("a.opus", "libopus", 48_000),
        ("a.ogg", "libopus", 48_000),
    ],
)
def test_lossy_files_start_at_their_first_sample(tmp_path: Path, name: str, codec: str, rate: int):
    sound = noise_sound(1.5, rate).astype(np.float32)
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 128_000
        kind = "flt" if codec == "libopus" else "fltp"
        frame = av.AudioFrame.from_ndarray(sound.T.copy(), format=kind, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reference = soxr.resample(sound[:, 0], rate, AUDIO_SAMPLE_RATE)
    assert abs(lag_seconds(whole(tmp_path / name), reference, AUDIO_SAMPLE_RATE)) < 1e-3


@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 4), Fraction(3, 4)])
def test_sound_of_a_video_is_placed_on_its_pictures(tmp_path: Path, start: Fraction):
    sound = noise_sound(1.0, 16_000)[:, 0]
    times = [Fraction(1, 2) + Fraction(i, 25) for i in range(30)]  # the first picture comes at half a second
    path = make_clip(tmp_path / "v.mkv", 30, times=times, sound=sound, sound_start=start)
    heard = whole(path)
    late = float(start - Fraction(1, 2))
    assert lag_seconds(heard, sound, AUDIO_SAMPLE_RATE) == pytest.approx(late, abs=1e-3)
    assert len(heard) / AUDIO_SAMPLE_RATE == pytest.approx(1.0 + late, abs=0.07)  # to a codec frame


def test_lost_packets_leave_silence_not_a_shift(tmp_path: Path):
    sound = noise_sound(2.0, 16_000)[:, 0]
    path = make_clip(tmp_path / "v.mkv", 50, sound=sound)
    with av.open(str(path)) as source, av.open(str(tmp_path / "holes.mka"), "w", format="matroska") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for number, packet in enumerate(p for p in source.demux(audio=0) if p.size):
            if not 8 <= number < 12:
                packet.stream = stream
                target.mux(packet)
    heard = whole(tmp_path / "holes.mka")
    assert abs(lag_seconds(heard[16_000:], sound[16_000:], AUDIO_SAMPLE_RATE)) < 1e-3


def test_numbers_that_are_none_become_silence_and_are_said(tmp_path: Path):
    sound = noise_sound(0.5, AUDIO_SAMPLE_RATE)[:, 0].astype(np.float32)
    sound[100:110], sound[200] = np.nan, np.inf
    soundfile.write(tmp_path / "n.wav", sound, AUDIO_SAMPLE_RATE, subtype="FLOAT")
    with read_waveform(tmp_path / "n.wav") as waveform:
        heard = waveform.read(0, len(waveform))
        assert np.isfinite(heard).all() and not heard[100:110].any() and heard[200] == 0
        assert any("11 sample" in event for event in waveform.events)


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ramp") / "ramp.wav"
    write_wav(path, np.arange(1000) / 2000, AUDIO_SAMPLE_RATE)
    return path


@settings(max_examples=40)
@given(start=st.integers(-50, 1100), length=st.integers(0, 1200))
def test_reads_are_slices_of_the_zero_padded_whole(ramp: Path, start: int, length: int):
    with read_waveform(ramp) as waveform:
        padded = np.pad(waveform.read(0, len(waveform)), (50, 1300))
        assert np.array_equal(waveform.read(start, start + length), padded[start + 50 : start + 50 + length])


def test_seconds_cut_the_sound(ramp: Path):
    with read_waveform(ramp, seconds=0.03) as waveform:
        assert len(waveform) == 480 and waveform.seconds == 0.03


def test_centre_of_surround_is_heard():
    block = np.zeros((6, 10), np.float32)
    block[2] = 1  # FL FR FC LFE BL BR
    assert to_mono(block, "5.1").max() == 0.5
    block[2], block[3] = 0, 1
    assert to_mono(block, "5.1").max() == 0


def test_memory_of_blocks_is_bounded(tmp_path: Path):
    path = make_wav(tmp_path / "long.wav", 20, 16_000)
    assert max(block.shape[1] for block in AudioSource(path).blocks()) < 16_000


def test_sound_without_samples_is_refused(tmp_path: Path):
    write_wav(tmp_path / "none.wav", np.zeros(0), 16_000)
    with pytest.raises(InputError, match=r"without samples"):
        read_waveform(tmp_path / "none.wav")
