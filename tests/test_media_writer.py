"""Writing: pictures, clock, colours, sound and its place in each container, the note, and nothing half-written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from media_clips import (
    HEIGHT,
    WIDTH,
    lag_seconds,
    make_clip,
    make_wav,
    noise_sound,
    number_of,
    picture,
    psnr,
)

from latentsync.media.audio import read_waveform, write_wav
from latentsync.media.outputs import CONTAINERS, OLD, PrivateFile, check_output, machine
from latentsync.media.probe import probe_audio, probe_video
from latentsync.media.provenance import DIGITAL_SOURCE_TYPE
from latentsync.media.reader import VideoReader
from latentsync.media.writer import VideoWriter
from latentsync.types import AUDIO_SAMPLE_RATE, InputError

SUFFIXES = list(CONTAINERS)


def copy_video(source: Path, out: Path, audio: Path | None = None, **options) -> list[str]:
    """Read everything, write it unchanged; the writer's events."""
    reader = VideoReader(source)
    with VideoWriter(out, reader.info, audio=audio, **options) as writer:
        for frame in reader.frames():
            writer.write(frame.image, frame.time)
    return writer.events


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30_000, 1001), Fraction(1350, 61)])
def test_pictures_and_clock_survive(tmp_path: Path, suffix: str, fps: Fraction):
    source = make_clip(tmp_path / "in.mp4", 15, fps, ticks=90_000)
    copy_video(source, tmp_path / f"out{suffix}")
    before, after = (list(VideoReader(p).frames()) for p in (source, tmp_path / f"out{suffix}"))
    assert [number_of(f.image) for f in after] == list(range(15))
    slack = 1e-3 if suffix in (".mkv", ".webm") else 0  # Matroska counts milliseconds
    assert np.abs(np.subtract([f.time for f in before], [f.time for f in after])).max() <= slack
    assert min(psnr(a.image, b.image) for a, b in zip(before, after, strict=True)) > 42
    assert float(probe_video(tmp_path / f"out{suffix}").fps) == pytest.approx(float(fps), rel=2e-3)


def test_variable_times_are_copied_to_the_tick(tmp_path: Path):
    times = [Fraction(t, 1000) for t in (0, 40, 100, 110, 300, 340, 355, 700)]
    source = make_clip(tmp_path / "v.mp4", len(times), times=times)
    for suffix in SUFFIXES:
        copy_video(source, tmp_path / f"o{suffix}")
        assert [f.time for f in VideoReader(tmp_path / f"o{suffix}").frames()] == [float(t) for t in times]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [(97, 65), (97, 64), (96, 65)])
def test_odd_sizes_stay(tmp_path: Path, suffix: str, size: tuple[int, int]):
    source = make_clip(tmp_path / "odd.webm", 3, size=size, codec="libvpx-vp9", options={"deadline": "realtime"})
    copy_video(source, tmp_path / f"o{suffix}")
    before, after = (list(VideoReader(p).frames()) for p in (source, tmp_path / f"o{suffix}"))
    assert after[0].image.shape == (size[1], size[0], 3)
    assert min(psnr(a.image, b.image) for a, b in zip(before, after, strict=True)) > 42


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (1, 5, 5, 6), (2, 1, 1, 1), (1, 2, 2, 2)])
def test_colour_tags_stay(tmp_path: Path, suffix: str, tags):
    source = make_clip(tmp_path / "c.mp4", 2, tags=tags)
    copy_video(source, tmp_path / f"o{suffix}")
    old, new = probe_video(source), probe_video(tmp_path / f"o{suffix}")
    assert {5: 6}.get(new.colorspace, new.colorspace) == {5: 6}.get(old.colorspace, old.colorspace)  # VP9 knows one 601
    assert (new.color_primaries, new.color_trc) == (old.color_primaries, old.color_trc)
    assert {0: 1}.get(new.color_range, new.color_range) == {0: 1}.get(old.color_range, old.color_range)
    images = (next(VideoReader(p).frames()).image for p in (source, tmp_path / f"o{suffix}"))
    assert psnr(*images) > 42


@pytest.mark.parametrize("wanted", ["yuv420p", "yuv422p", "yuv444p"])
def test_pixel_format_stays(tmp_path: Path, wanted: str):
    source = make_clip(tmp_path / "p.mp4", 2, pixel_format=wanted)
    copy_video(source, tmp_path / "o.mp4")
    assert probe_video(tmp_path / "o.mp4").pixel_format == wanted


def test_ten_bits_stay_in_hevc_and_are_said_to_be_lost_in_webm(tmp_path: Path):
    quiet = {"x265-params": "log-level=none", "preset": "ultrafast"}
    source = make_clip(tmp_path / "d.mp4", 3, codec="libx265", pixel_format="yuv420p10le", options=quiet)
    assert copy_video(source, tmp_path / "o.mp4") == []
    info = probe_video(tmp_path / "o.mp4")
    assert (info.codec, info.pixel_format) == ("hevc", "yuv420p10le")
    assert psnr(next(VideoReader(source).frames()).image, next(VideoReader(tmp_path / "o.mp4").frames()).image) > 42
    assert any("10 bits" in event for event in copy_video(source, tmp_path / "o.webm"))


def test_a_turned_source_is_written_upright(tmp_path: Path):
    source = make_clip(tmp_path / "t.mp4", 2, rotation=-90)
    copy_video(source, tmp_path / "o.mp4")
    info = probe_video(tmp_path / "o.mp4")
    assert (info.width, info.height, info.rotation) == (HEIGHT, WIDTH, 0)


def heard(path: Path, seconds: float) -> np.ndarray:
    """Mono samples as a player places them: on the clock of the pictures."""
    with read_waveform(path) as waveform:
        return waveform.read(0, round(seconds * AUDIO_SAMPLE_RATE))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16_000, 2), (22_050, 1), (44_100, 2), (48_000, 1)])
def test_sound_is_in_its_place_at_its_rate(tmp_path: Path, suffix: str, rate: int, channels: int):
    source = make_clip(tmp_path / "v.mp4", 38)
    audio = make_wav(tmp_path / "a.wav", 1.5, rate, channels)
    events = copy_video(source, tmp_path / f"o{suffix}", audio)
    info = probe_audio(tmp_path / f"o{suffix}")
    assert (info.sample_rate, info.channels) == (48_000 if suffix == ".webm" else rate, channels)
    assert bool(events) == (info.sample_rate != rate)
    lag = lag_seconds(heard(tmp_path / f"o{suffix}", 1.5), heard(audio, 1.5), AUDIO_SAMPLE_RATE)
    assert abs(lag) < 1e-3


def test_lossless_in_matroska(tmp_path: Path):
    audio = make_wav(tmp_path / "a.wav", 0.8, 44_100, 2)
    copy_video(make_clip(tmp_path / "v.mp4", 20), tmp_path / "o.mkv", audio)
    with av.open(str(tmp_path / "o.mkv")) as a, av.open(str(audio)) as b:
        new, old = (np.concatenate([f.to_ndarray() for f in c.decode(audio=0)], axis=1) for c in (a, b))
    assert np.array_equal(new, old)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("sound", "limit", "expected"), [(3.0, None, 0.8), (3.0, 0.5, 0.5), (0.4, None, 0.4)])
def test_sound_ends_with_its_limit_or_the_pictures(tmp_path: Path, suffix: str, sound, limit, expected):
    audio = make_wav(tmp_path / "a.wav", sound, 16_000)
    copy_video(make_clip(tmp_path / "v.mp4", 20), tmp_path / f"o{suffix}", audio, audio_seconds=limit)
    padding = 1024 / 16_000 if suffix in (".mp4", ".mov") else 0.001  # players of AAC play its last frame out
    with read_waveform(tmp_path / f"o{suffix}") as waveform:
        assert expected - 1e-3 <= waveform.seconds < expected + padding
    with av.open(str(tmp_path / f"o{suffix}")) as container:
        assert container.duration / 1e6 == pytest.approx(0.8, abs=0.011)


def test_surround_and_strange_channels(tmp_path: Path):
    source = make_clip(tmp_path / "v.mp4", 10)
    for channels, expected, said in ((6, 6, False), (7, 2, True)):
        write_wav(tmp_path / "a.wav", noise_sound(0.4, 48_000, channels), 48_000)
        events = copy_video(source, tmp_path / "o.mp4", tmp_path / "a.wav")
        assert probe_audio(tmp_path / "o.mp4").channels == expected
        assert bool(events) == said


def test_the_sound_of_the_source_goes_on_where_the_new_one_ends(tmp_path: Path):
    own = noise_sound(1.6, 16_000, seed=1)[:, 0]
    source = make_clip(tmp_path / "v.mp4", 40, sound=own)
    new = make_wav(tmp_path / "a.wav", 0.8, 44_100)
    copy_video(source, tmp_path / "o.mkv", new, keep_sound=True)
    mixed, first = heard(tmp_path / "o.mkv", 1.6), heard(new, 0.8)
    assert np.abs(mixed[:12_500] - first[:12_500]).max() < 0.02
    assert np.corrcoef(mixed[13_000:25_000], own[13_000:25_000])[0, 1] > 0.98


def test_the_last_picture_lasts_as_long_as_it_says(tmp_path: Path):
    info = probe_video(make_clip(tmp_path / "v.mp4", 2))
    audio = make_wav(tmp_path / "a.wav", 2.0, 16_000)
    with VideoWriter(tmp_path / "o.mkv", info, audio=audio) as writer:
        writer.write(picture(0), 0.0, 0.04)
        writer.write(picture(1), 0.04, 1.0)
    with read_waveform(tmp_path / "o.mkv") as waveform:
        assert waveform.seconds == pytest.approx(1.04, abs=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_note_says_ai_modified(tmp_path: Path, suffix: str):
    source = make_clip(tmp_path / "v.mp4", 3)
    copy_video(source, tmp_path / f"o{suffix}", extra_metadata={"title": "Ein Gruß"})
    with av.open(str(tmp_path / f"o{suffix}")) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["digitalsourcetype"] == DIGITAL_SOURCE_TYPE
    assert "AI-modified" in tags["comment"] and tags["title"] == "Ein Gruß"


def test_mp4_carries_the_note_as_xmp_too(tmp_path: Path):
    copy_video(make_clip(tmp_path / "v.mp4", 3), tmp_path / "o.mp4")
    data, boxes, at = (tmp_path / "o.mp4").read_bytes(), {}, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes[data[at + 4 : at + 8]] = data[at + 8 : at + size]
        at += size
    root = ElementTree.fromstring(boxes[b"uuid"][16:].decode().split("?>", 1)[1].rsplit("<?", 1)[0])
    kind = root.find(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert at == len(data) and kind is not None and kind.text == DIGITAL_SOURCE_TYPE


def test_the_index_of_mp4_is_in_front(tmp_path: Path):
    copy_video(make_clip(tmp_path / "v.mp4", 3), tmp_path / "o.mp4")
    data = (tmp_path / "o.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize(
    "name", ["mit Leerzeichen.mp4", 'it\'s "quoted".mkv', "выход 出力 🎬.webm", "10:30 x.mov", "ж" * 120 + ".mp4"]
)
def test_any_output_name(tmp_path: Path, name: str):
    copy_video(make_clip(tmp_path / "v.mp4", 2), tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["v.mp4", name])


def test_the_same_input_gives_the_same_bytes(tmp_path: Path):
    source, audio = make_clip(tmp_path / "v.mp4", 12), make_wav(tmp_path / "a.wav", 0.5, 44_100)
    for name in ("a.mp4", "b.mp4"):
        copy_video(source, tmp_path / name, audio)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def refused(out: Path, source: Path, audio: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        copy_video(source, out, audio)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_outputs_are_refused_before_any_work(tmp_path: Path):
    source = make_clip(tmp_path / "v.mp4", 2)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    audio = make_wav(tmp_path / "a.wav", 0.1, 16_000).rename(tmp_path / "a.mkv")
    for name in ("o.avi", "o"):
        message = refused(tmp_path / name, source)
        assert all(suffix in message for suffix in SUFFIXES)
    assert "does not exist" in refused(tmp_path / "none" / "o.mp4", source)
    assert "is a folder" in refused(tmp_path / "folder.mp4", source)
    for name in ("v.mp4", "link.mp4", "hard.mp4"):
        assert "same file" in refused(tmp_path / name, source)
    assert "same file" in refused(audio, source, audio)
    assert number_of(next(VideoReader(source).frames()).image) == 0
    assert not list(tmp_path.glob("*.partial.*"))


def test_an_error_in_the_job_leaves_the_old_file_alone(tmp_path: Path):
    source, out = make_clip(tmp_path / "v.mp4", 2), tmp_path / "o.mp4"
    out.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt), VideoWriter(out, probe_video(source), audio=None) as writer:
        writer.write(picture(0), 0.0)
        raise KeyboardInterrupt
    with pytest.raises(InputError, match="No picture"), VideoWriter(out, probe_video(source), audio=None):
        pass
    with pytest.raises(InputError, match="no sound"):
        VideoWriter(out, probe_video(source), audio=source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.mp4", "v.mp4"]
    assert out.read_bytes() == b"older"


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from latentsync.media.reader import VideoReader
from latentsync.media.writer import VideoWriter
from latentsync.types import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
reader = VideoReader(Path(sys.argv[1]))
try:
    with VideoWriter(Path(sys.argv[2]), reader.info, audio=None) as writer:
        for frame in reader.frames():
            writer.write(frame.image, frame.time)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, suffix: str):
    source = make_clip(tmp_path / "v.mp4", 60, size=(192, 128))
    command = [sys.executable, "-c", FULL_DISK, str(source), str(tmp_path / f"o{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "is full" in done.stdout and done.stdout.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_every_disk_error_becomes_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = make_clip(tmp_path / "v.mp4", 2)
    for code, words in ((errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EIO, "could not be written")):
        monkeypatch.setattr(PrivateFile, "publish", lambda _, code=code: _raise(OSError(code, os.strerror(code))))
        assert words in refused(tmp_path / "o.mp4", source)
        assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def _raise(error: Exception) -> None:
    raise error


def test_leftovers_of_dead_jobs_go_and_those_of_living_ones_stay(tmp_path: Path):
    source, target = make_clip(tmp_path / "v.mp4", 2), tmp_path / "o.mp4"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    dead = tmp_path / f".o.mp4.{machine()}-{child.pid}-0123abcd.partial.mp4"
    alive = tmp_path / f".o.mp4.{machine()}-{os.getppid()}-0123abcd.partial.mp4"
    other = tmp_path / f".other.mp4.{machine()}-{child.pid}-0123abcd.partial.mp4"
    for path in (dead, alive, other):
        path.write_bytes(b"x")
    copy_video(source, target)
    assert not dead.exists() and alive.exists() and other.exists()


def test_what_another_machine_writes_on_a_shared_disk_stays_until_it_is_old(tmp_path: Path):
    source, target = make_clip(tmp_path / "v.mp4", 2), tmp_path / "o.mp4"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    fresh, old = (tmp_path / f".o.mp4.{host}-{child.pid}-0123abcd.partial.mp4" for host in ("0badcafe", "0badbeef"))
    for path in (fresh, old):
        path.write_bytes(b"x")
    os.utime(old, (0, time.time() - 2 * OLD))
    copy_video(source, target)
    assert fresh.exists() and not old.exists()


def test_two_jobs_for_one_target_do_not_disturb_each_other(tmp_path: Path):
    source, target = make_clip(tmp_path / "v.mp4", 4), tmp_path / "o.mp4"
    info = probe_video(source)
    with VideoWriter(target, info, audio=None) as first, VideoWriter(target, info, audio=None) as second:
        for i in range(4):
            first.write(picture(i), i / 25)
            second.write(picture(i + 10), i / 25)
    assert number_of(next(VideoReader(target).frames()).image) == 0  # the outer one finished last
    check_output(target, [source])


def test_killed_job_leaves_only_its_private_file_and_the_next_removes_it(tmp_path: Path):
    source, target = make_clip(tmp_path / "v.mp4", 60, size=(192, 128)), tmp_path / "o.mkv"
    script = FULL_DISK.replace("20_000", "resource.RLIM_INFINITY").replace(
        "writer.write(frame.image, frame.time)",
        "writer.write(frame.image, frame.time)\n            if frame.index == 50: import os; os.kill(os.getpid(), 9)",
    )
    done = subprocess.run([sys.executable, "-c", script, str(source), str(target)], capture_output=True)
    assert done.returncode == -9 and not target.exists()
    assert len(list(tmp_path.glob(".o.mkv.*.partial.mkv"))) == 1
    copy_video(source, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.mkv", "v.mp4"]


@pytest.mark.parametrize("name", ["grid_sbwe5n.mpg", "syncnet_example.avi", "edtalk_pose_source2.mp4"])
def test_quality_on_real_clips(tmp_path: Path, clips_dir: Path, name: str):
    reader = VideoReader(clips_dir / name)
    before = []
    with VideoWriter(tmp_path / "o.mp4", reader.info, audio=clips_dir / name) as writer:
        for frame in reader.frames():
            if frame.index == 10:
                break
            before.append(frame.image)
            writer.write(frame.image, frame.time)
    after = [frame.image for frame in VideoReader(tmp_path / "o.mp4").frames()]
    assert len(after) == 10
    assert min(psnr(a, b) for a, b in zip(before, after, strict=True)) > 42
