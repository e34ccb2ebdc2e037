"""Reading: times, turns, sizes, damage. The truth is the number drawn in every picture."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import HEIGHT, WIDTH, lag_seconds, make_clip, make_wav, noise_sound, number_of, picture, psnr

from latentsync.media.audio import read_waveform
from latentsync.media.probe import probe_audio, probe_video
from latentsync.media.reader import VideoReader
from latentsync.types import InputError


def numbers(reader: VideoReader, order=None) -> list[int]:
    return [number_of(frame.image) for frame in reader.frames(order)]


FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mkv", "libx264", {"bf": "3"}),
        ("a.avi", "mpeg4", {"b": "2000000"}),
        ("a.webm", "libvpx-vp9", FAST_VP9),
    ],
)
def test_every_picture_in_order_with_its_time(tmp_path: Path, name: str, codec: str, options: dict[str, str]):
    path = make_clip(tmp_path / name, 20, 25, codec=codec, options=options, ticks=25 if codec == "mpeg4" else 12_800)
    reader = VideoReader(path)
    frames = list(reader.frames())
    assert [number_of(f.image) for f in frames] == list(range(20))
    assert [f.index for f in frames] == list(range(20))
    assert np.allclose([f.time for f in frames], np.arange(20) / 25, atol=6e-4)  # Matroska counts milliseconds
    assert reader.end_time == pytest.approx(0.8, abs=2e-3)
    assert reader.events == []


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_undone(tmp_path: Path, rotation: int):
    path = make_clip(tmp_path / "turned.mp4", 3, rotation=rotation)
    stored = make_clip(tmp_path / "stored.mp4", 3)
    info = probe_video(path)
    expected_size = (WIDTH, HEIGHT) if rotation == 180 else (HEIGHT, WIDTH)
    assert (info.width, info.height, info.rotation) == (*expected_size, -rotation % 360)
    turned, plain = next(VideoReader(path).frames()).image, next(VideoReader(stored).frames()).image
    assert np.array_equal(turned, np.rot90(plain, rotation // 90))  # numpy turns counter-clockwise too


def test_variable_frame_rate_times_are_the_files_own(tmp_path: Path):
    times = [Fraction(t, 1000) for t in (0, 40, 100, 110, 300, 340, 355, 700)]
    path = make_clip(tmp_path / "v.mp4", len(times), times=times)
    assert [f.time for f in VideoReader(path).frames()] == [float(t) for t in times]


def test_time_starts_at_the_first_picture(tmp_path: Path):
    times = [Fraction(2) + Fraction(i, 25) for i in range(6)]
    path = make_clip(tmp_path / "late.mkv", 6, times=times)
    assert np.allclose([f.time for f in VideoReader(path).frames()], np.arange(6) / 25, atol=1e-9)


@pytest.mark.parametrize("size", [(97, 65), (96, 65), (97, 64)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]):
    path = make_clip(tmp_path / "odd.mp4", 3, size=size, pixel_format="yuv444p")
    reader = VideoReader(path)
    assert (reader.info.width, reader.info.height) == size
    assert numbers(reader) == [0, 1, 2]


@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (1, 5, 5, 6), (2, 1, 1, 1)])
def test_colours_come_back_with_the_matrix_of_the_tag(tmp_path: Path, tags):
    path = make_clip(tmp_path / "c.mp4", 2, tags=tags)
    info = probe_video(path)
    assert (info.color_range, info.colorspace, info.color_primaries, info.color_trc) == tags
    assert psnr(next(VideoReader(path).frames()).image, picture(0)) > 33  # the wrong matrix or range gives under 30


def test_pictures_in_any_order_equal_those_of_the_pass(tmp_path: Path):
    path = make_clip(tmp_path / "o.mp4", 90, options={"g": "25", "bf": "2"})
    reader = VideoReader(path)
    forward = [f.image for f in reader.frames()]
    for order in (range(89, -1, -1), [5, 80, 5, 44], range(30, 60)):
        frames = list(reader.frames(order))
        assert [f.index for f in frames] == list(order)
        assert all(np.array_equal(f.image, forward[f.index]) for f in frames)


def test_backwards_without_usable_times(tmp_path: Path):
    raw = make_clip(tmp_path / "raw.h264", 70, options={"bf": "0"})  # a bare stream has neither times nor an index
    reader = VideoReader(raw)
    assert numbers(reader) == list(range(70))
    assert numbers(reader, range(69, -1, -1)) == list(range(69, -1, -1))


def spoil_packets(path: Path, which: list[int], seed: int = 0) -> None:
    """Overwrite the inner bytes of some video packets with noise."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    for index in which:
        start, size = places[index]
        for at in range(start + min(8, size // 4), start + size):
            data[at] = rng.randrange(256)
    path.write_bytes(data)


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_damaged_pictures_keep_count_and_time(tmp_path: Path, codec: str):
    options = (
        {"g": "10", "bf": "0"} if codec == "libx264" else {"g": "10", "deadline": "realtime", "lag-in-frames": "0"}
    )
    path = make_clip(tmp_path / "d.mkv", 40, codec=codec, options=options)
    spoil_packets(path, [15])
    reader = VideoReader(path)
    frames = list(reader.frames())
    assert len(frames) == 40
    assert np.allclose([f.time for f in frames], np.arange(40) / 25, atol=6e-4)
    seen = [number_of(f.image) for f in frames]
    assert seen[:15] == list(range(15)) and seen[20:] == list(range(20, 40))
    assert seen[15] == 14  # the last good picture stands in
    assert any("damaged" in event and "0.60" in event for event in reader.events)


def test_truncated_file_gives_what_decodes_and_says_where(tmp_path: Path):
    path = make_clip(tmp_path / "t.mp4", 100, container_options={"movflags": "+faststart"}, options={"bf": "0"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    reader = VideoReader(path)
    count = len(list(reader.frames()))
    assert 20 < count < 99
    assert any("cut off" in event and "4.00 s" in event and str(path) in event for event in reader.events)


@pytest.mark.parametrize(
    "name", ["with space.mp4", 'it\'s "quoted".mp4', "видео 映像 🎬.mp4", "12:30 talk.mp4", "a%03d.mp4", "-x.mp4"]
)
def test_any_file_name(tmp_path: Path, name: str):
    plain = make_clip(tmp_path / "plain.mp4", 2)
    plain.rename(tmp_path / name)
    assert probe_video(tmp_path / name).width == WIDTH


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> (file, word that its sentence must hold)."""
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.txt").write_text("not a video at all\n" * 40)
    (folder / "noise.mp4").write_bytes(bytes(random.Random(0).randrange(256) for _ in range(4000)))
    with av.open(str(folder / "still.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0, 32, 32), format="rgb24")))
        container.mux(stream.encode(None))
    cut = make_clip(folder / "cut.mp4", 10)  # its index is at the end
    cut.write_bytes(cut.read_bytes()[:-600])
    return {
        "missing": (folder / "missing.mp4", "does not exist"),
        "folder": (folder, "is a folder"),
        "empty": (folder / "empty.mp4", "is empty"),
        "text": (folder / "text.txt", "not a video"),
        "noise": (folder / "noise.mp4", "not a video"),
        "picture": (folder / "still.png", "is a picture"),
        "sound": (make_wav(folder / "sound.wav", 0.2, 16_000), "no video stream"),
        "cut": (cut, "cut off"),
    }


def test_each_bad_video_gets_its_own_sentence(tmp_path: Path):
    for path, words in bad_inputs(tmp_path).values():
        with pytest.raises(InputError) as caught:
            VideoReader(path)
        message = str(caught.value)
        assert words in message and str(path) in message and "\n" not in message


def test_each_bad_audio_gets_its_own_sentence(tmp_path: Path):
    silent_clip = make_clip(tmp_path / "silent.mp4", 3)
    header_only = make_wav(tmp_path / "none.wav", 0.0, 16_000)
    for path, words in ((silent_clip, "no sound"), (header_only, "without samples"), (tmp_path / "no.wav", "exist")):
        with pytest.raises(InputError, match=words):
            probe_audio(path)


def test_pictures_hidden_by_an_edit_list_stay_hidden(tmp_path: Path):
    whole = make_clip(tmp_path / "whole.mp4", 40, options={"bf": "2"}, sound=noise_sound(1.6, 16_000)[:, 0])
    cut = Fraction(13, 25)  # seconds, not at a key frame
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in (p for p in source.demux() if p.size):
            ticks = int(cut / packet.stream.time_base)
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    reader = VideoReader(tmp_path / "cut.mp4")
    assert reader.info.frames == 27
    assert numbers(reader) == list(range(13, 40))
    assert numbers(reader, range(26, -1, -1)) == list(range(39, 12, -1))
    with read_waveform(tmp_path / "cut.mp4") as waveform:
        heard = waveform.read(0, len(waveform))
    assert lag_seconds(heard, noise_sound(1.6, 16_000)[:, 0], 16_000) == pytest.approx(-float(cut), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "options"),
    [
        ("a.ts", "libx264", "yuv420p", {"bf": "2"}),
        ("a.mov", "prores_ks", "yuv422p10le", {}),
        ("a.mp4", "libx265", "yuv420p", {"x265-params": "log-level=none:open-gop=1:keyint=8:min-keyint=8"}),
        ("a.webm", "libvpx-vp9", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    ],
)
def test_codecs_that_reorder_and_hide_pictures(tmp_path: Path, name: str, codec: str, pixel_format: str, options):
    path = make_clip(tmp_path / name, 24, codec=codec, pixel_format=pixel_format, options=options)
    reader = VideoReader(path)
    assert numbers(reader) == list(range(24)) and reader.events == []
    assert numbers(reader, range(23, -1, -1)) == list(range(23, -1, -1))


def test_real_clips_have_the_listed_frames(clips_dir: Path):
    rows = (line.split("\t") for line in (clips_dir / "INDEX.tsv").read_text().splitlines())
    frames = {row[0]: row[6] for row in rows}
    for name in ("grid_brbk7n.mpg", "videoretalking_face5_hq.mp4", "lipreadingdl_sample_video.mp4"):
        reader = VideoReader(clips_dir / name)
        assert sum(1 for _ in reader.frames()) == int(frames[name])
        assert reader.events == []
