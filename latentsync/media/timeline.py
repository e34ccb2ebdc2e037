"""Length policy: which source frame is shown when, where sound and video differ in length.

A source frame at time t (seconds after the first) belongs to the result exactly when t < audio_seconds:
`cut`       those frames; where the sound is longer, it is cut at the end of the video
`keep`      all frames; those at t >= audio_seconds are left as they are (`dub` is False)
`loop`      the video starts again after the end of its last frame, until audio_seconds
`pingpong`  forwards, backwards, forwards, ...: frame i is shown at 2kT + t_i and 2kT - t_i, T the last frame's time
`hold`      the last frame is repeated at the nominal rate, until audio_seconds
Where the sound is not longer than the video, the last three do what `cut` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from latentsync.media.reader import VideoReader
from latentsync.types import Frame, InputError, VideoInfo

FITS = ("cut", "loop", "pingpong", "hold", "keep")
TIME_EPSILON = 1e-7  # seconds; below any tick, above the rounding of float times


@dataclass(frozen=True)
class Timeline:
    """The plan for one job; `expected_frames` is an estimate for progress, None where the container says too little."""

    fit: str
    audio_seconds: float
    fps: float  # nominal, of held frames
    expected_frames: int | None


@dataclass(frozen=True)
class TimelineFrame:
    """One picture of the result."""

    frame: Frame
    out_index: int
    out_time: float  # seconds
    joint: bool  # not continuous with the picture before: a loop starts again
    dub: bool  # False where the picture is left as it is
    duration: float = 0.0  # seconds until the next picture, or the end of the source; 0 when unknown


def plan(video: VideoInfo, audio_seconds: float, fit: str) -> Timeline:
    """The timeline for a video and `audio_seconds` of sound; InputError for an unknown `fit` or no sound."""
    if fit not in FITS:
        raise InputError(f"Unknown fit '{fit}'; choose one of {', '.join(FITS)}.")
    if not audio_seconds > 0:
        raise InputError(f"The sound for '{video.path}' has no length ({audio_seconds} s); give a file with sound.")
    seconds: float | None = audio_seconds
    if fit == "keep":
        seconds = video.duration
    elif fit == "cut":
        seconds = min(audio_seconds, video.duration or math.inf)
    count = None if seconds is None else max(1, math.ceil(seconds * float(video.fps) - TIME_EPSILON))
    if fit in ("cut", "keep") and video.frames and count is not None:
        count = min(count, video.frames)
    return Timeline(fit, audio_seconds, float(video.fps), count)


def frames(reader: VideoReader, timeline: Timeline) -> Iterator[TimelineFrame]:
    """The pictures of the result in order; memory does not grow with their number."""
    shown = {"cut": _once, "keep": _once, "loop": _looped, "pingpong": _pingpong, "hold": _held}[timeline.fit]
    held: TimelineFrame | None = None  # one behind, so that its duration is known
    for index, (frame, time, joint) in enumerate(shown(reader, timeline)):
        if held is not None:
            yield replace(held, duration=time - held.out_time)
        dub = time < timeline.audio_seconds - TIME_EPSILON
        if not dub and timeline.fit != "keep":
            return
        held = TimelineFrame(frame, index, time, joint, dub)
    if held is not None:
        yield replace(held, duration=reader.end_time - held.frame.time)


Shown = tuple[Frame, float, bool]  # picture, time of the result in seconds, joint


def _once(reader: VideoReader, _: Timeline) -> Iterator[Shown]:
    for frame in reader.frames():
        yield frame, frame.time, False


def _looped(reader: VideoReader, _: Timeline) -> Iterator[Shown]:
    offset = 0.0
    while True:
        for frame in reader.frames():
            yield frame, offset + frame.time, offset > 0 and frame.index == 0
        offset += reader.end_time


def _pingpong(reader: VideoReader, timeline: Timeline) -> Iterator[Shown]:
    frame = None
    for frame, time, joint in _once(reader, timeline):
        yield frame, time, joint
    if frame is None or frame.index == 0:
        yield from _still(frame, reader, timeline)
        return
    turn, offset = frame.time, 0.0
    while True:
        offset += 2 * turn
        for back in reader.frames(range(reader.frames_seen - 2, -1, -1)):
            yield back, offset - back.time, False
        for forth in reader.frames():
            if forth.index:
                yield forth, offset + forth.time, False


def _held(reader: VideoReader, timeline: Timeline) -> Iterator[Shown]:
    frame = None
    for frame, time, joint in _once(reader, timeline):
        yield frame, time, joint
    yield from _still(frame, reader, timeline)


def _still(frame: Frame | None, reader: VideoReader, timeline: Timeline) -> Iterator[Shown]:
    """The last frame again and again after the end of the video."""
    time = reader.end_time
    while frame is not None:
        yield frame, time, False
        time += 1 / timeline.fps
