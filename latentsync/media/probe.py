"""What a file is, before anything is decoded in earnest: `probe_video` and `probe_audio`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType

from latentsync.media.containers import MICROSECONDS, is_picture_file, moving_streams, open_input, packets
from latentsync.types import MODEL_FPS, AudioInfo, InputError, VideoInfo

MAX_FPS = 1000  # a frame rate above this is a time base in disguise
CUT_OFF_HINT = "it may be damaged or cut off; check that it plays, or export it again"


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes upright: transposed first, then mirrored."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def degrees(self) -> int:
        """Clockwise rotation, a mirror image counted as the rotation it contains."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0


@dataclass(frozen=True)
class StreamTraits:
    """What a writer needs of the source beside its VideoInfo."""

    time_base: Fraction  # seconds a tick of the presentation times
    sample_aspect_ratio: Fraction | None  # width / height of one upright pixel; None when square or unknown
    metadata: dict[str, str]  # the container's tags


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The display matrix of a decoded frame, to the nearest quarter turn (ISO 14496-12, 6.2.2)."""
    items: Any = frame.side_data
    for item in items:
        if item.type == SideDataType.DISPLAYMATRIX:
            # Row-major (a b u, c d v, x y w): x' = a x + c y, y' = b x + d y, in the machine's byte order.
            a, b, _, c, d, *_ = memoryview(item).cast("B").cast("i")
            if abs(b) + abs(c) > abs(a) + abs(d):
                return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)
            return Orientation(flip_x=a < 0, flip_y=d < 0)
    return Orientation()


def video_stream(container: InputContainer, path: Path) -> Any:
    """The first moving video stream; InputError when there is none that can be decoded."""
    if is_picture_file(container):
        raise InputError(f"'{path}' is a picture, not a video; give a video file.")
    streams = moving_streams(container)
    if not streams:
        found = "sound" if container.streams.audio else "no picture and no sound"
        raise InputError(f"'{path}' has no video stream (it holds {found}); give a video file.")
    if streams[0].codec_context is None:
        raise InputError(f"'{path}' holds video of an unknown codec or is cut off; check that it plays.")
    return streams[0]


def first_frame(container: InputContainer, stream: Any) -> Any | None:
    """The first frame of a stream that decodes and is not empty, or None."""
    for packet in packets(container, stream):
        for frame in decode_or_nothing(packet):
            if stream.type == "video" or frame.samples:
                return frame
    return None


def decode_or_nothing(packet: Any, on_damage: Callable[[], None] | None = None) -> Iterator[Any]:
    """Frames of one packet; none of a damaged one, which `on_damage` hears of."""
    try:
        yield from packet.decode()
    except av.EOFError:
        return
    except (av.FFmpegError, OSError):
        if on_damage is not None:
            on_damage()


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Facts of the first video stream of `path`, read from its header and first picture.

    Raises InputError: missing or unreadable file, not a video, a picture, no video stream, nothing that decodes.
    """
    path = Path(path)
    with open_input(path) as container:
        stream = video_stream(container, path)
        frame = first_frame(container, stream)
        if frame is None:
            raise InputError(f"'{path}' holds no picture that can be decoded ({stream.codec.name}); {CUT_OFF_HINT}.")
        orientation = orientation_of(frame)
        width, height = (frame.height, frame.width) if orientation.transpose else (frame.width, frame.height)
        fps, duration = frame_rate(stream), video_duration(container, stream)
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            rotation=orientation.degrees,
            fps=fps,
            frames=frame_count(stream.frames, duration, fps),
            duration=duration,
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=frame.format.name,
            has_audio=bool(container.streams.audio),
            color_range=int(frame.color_range),
            colorspace=int(frame.colorspace),
            color_primaries=int(frame.color_primaries),
            color_trc=int(frame.color_trc),
        )


def probe_traits(path: str | os.PathLike[str]) -> StreamTraits:
    """Time base, pixel shape and tags of a video that `probe_video` accepts."""
    path = Path(path)
    with open_input(path) as container:
        stream = video_stream(container, path)
        frame = first_frame(container, stream)
        ratio = stream.codec_context.sample_aspect_ratio
        turned = frame is not None and orientation_of(frame).transpose
        upright = (1 / ratio if turned else ratio) if ratio else None
        return StreamTraits(stream.time_base, None if upright == 1 else upright, dict(container.metadata))


def frame_rate(stream: Any) -> Fraction:
    """The average frame rate, or the best guess; 25 where the file says nothing sensible."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= MAX_FPS:
            return Fraction(rate)
    return Fraction(int(MODEL_FPS))


def frame_count(stored: int, duration: float | None, fps: Fraction) -> int | None:
    """How many pictures a file says it has: the smaller of its count, which includes pictures that an edit list hides,
    and what its duration has room for."""
    claims = [count for count in (stored, round(duration * fps) if duration else 0) if count]
    return min(claims, default=None)


def video_duration(container: InputContainer, stream: Any) -> float | None:
    """Seconds of the video stream as the file says: the stream, Matroska's tag, or the whole container."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = next((value for key, value in stream.metadata.items() if key.upper() == "DURATION"), "")
    try:
        hours, minutes, seconds = tag.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return container.duration / MICROSECONDS if container.duration else None


def audio_stream(container: InputContainer, path: Path) -> Any:
    """The first audio stream; InputError when there is none that can be decoded."""
    if not container.streams.audio:
        raise InputError(f"'{path}' has no sound (no audio stream); give a file with sound as the audio.")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise InputError(f"'{path}' holds sound of an unknown codec or is cut off; check that it plays.")
    return stream


def probe_audio(path: str | os.PathLike[str]) -> AudioInfo:
    """Facts of the first audio stream of `path`; the rate and channels are those its decoder gives.

    Raises InputError: missing or unreadable file, no audio stream, a stream without samples.
    """
    path = Path(path)
    with open_input(path) as container:
        stream = audio_stream(container, path)
        frame = first_frame(container, stream)
        if frame is None:
            raise InputError(f"'{path}' has an audio stream without samples; give a file with sound.")
        seconds = stream.duration * stream.time_base if stream.duration else None
        if seconds is None and container.duration:
            seconds = Fraction(container.duration, MICROSECONDS)
        return AudioInfo(
            path=path,
            sample_rate=frame.sample_rate,
            channels=frame.layout.nb_channels,
            layout=frame.layout.name,
            codec=stream.codec_context.codec.canonical_name,
            duration=float(seconds) if seconds else None,
        )
