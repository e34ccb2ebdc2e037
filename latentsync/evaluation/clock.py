"""One clock for every metric: 25 pictures a second, by choosing pictures and not by mixing them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from latentsync.data.preparation.resample import SLACK
from latentsync.types import MODEL_FPS, Frame, VideoInfo

RATE_TOLERANCE = 0.01  # frames a second by which a rate may differ from 25 and still count as it


def frames_at_25(path: Path | str) -> Iterator[Frame]:
    """The pictures of a video on the clock of the networks: tick i shows the one that lies nearest in time to i / 25 s.

    `index` is the tick and `time` its seconds. A file of 25 pictures a second comes through as it is; in others some
    are shown twice or not at all. InputError: not a readable video.
    """
    from latentsync.media.reader import VideoReader

    reader = VideoReader(path)
    return on_ticks(reader.frames(), lambda: reader.end_time)


def on_ticks(frames: Iterable[Frame], end_time: Callable[[], float]) -> Iterator[Frame]:
    """As `frames_at_25`, of any stream of pictures; `end_time()` is asked when it has ended: seconds of its end."""
    shown: Frame | None = None
    tick, waiting = 0, deque[Frame]()  # ticks whose 1/25 s may reach beyond the end
    for frame in frames:
        if shown is not None:
            while tick / MODEL_FPS - SLACK <= (shown.time + frame.time) / 2:
                waiting.append(replace(shown, index=tick, time=tick / MODEL_FPS))
                tick += 1
        shown = frame
        while waiting and (waiting[0].index + 1) / MODEL_FPS <= frame.time + SLACK:
            yield waiting.popleft()
    ticks = int((end_time() + SLACK) * MODEL_FPS) if shown is not None else 0
    yield from (frame for frame in waiting if frame.index < ticks)
    yield from (replace(shown, index=last, time=last / MODEL_FPS) for last in range(tick, ticks) if shown is not None)


def rate_note(info: VideoInfo) -> str | None:
    """What a reader of the results must know of a file that has another rate than 25; None for one that has it."""
    fps = float(info.fps)
    if abs(fps - MODEL_FPS) <= RATE_TOLERANCE:
        return None
    return (
        f"{info.path.name} has {fps:.4g} frames a second: measured at {MODEL_FPS:g}, of each tick the nearest picture"
    )
