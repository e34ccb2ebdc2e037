"""What a job tells while it runs, and how long each stage took."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from latentsync.types import WINDOW_FRAMES

Item = TypeVar("Item")
PLAIN_INTERVAL = 5.0  # seconds between lines where stderr is no terminal
FRAMES_FOR_ETA = WINDOW_FRAMES  # the first ones wait for their window and for references; they say little
_END = object()


@dataclass(frozen=True)
class Progress:
    """How far a job is. percent: 0..100; eta: seconds to go, None while unknown."""

    stage: str
    percent: float
    eta: float | None
    frames: int


class Stopwatch:
    """Seconds by stage. A stage inside another one counts for itself only; each thread keeps its own nesting."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the context for `name`."""
        inner: list[float] = self._local.__dict__.setdefault("inner", [])
        inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            with self._lock:
                self.seconds[name] += elapsed - inner.pop()
            if inner:
                inner[-1] += elapsed

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """`items`, the time to get each of them counted for `name`."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]


class ProgressReporter:
    """Turns counted frames into `Progress`, for a callable, a bar on a terminal, plain lines elsewhere, or nothing."""

    def __init__(self, progress: bool | Callable[[Progress], None], expected_frames: int | None) -> None:
        self._expected, self._start, self._frames = expected_frames, time.monotonic(), 0
        self._plain_at = self._start
        self._bar = None
        self._tell: Callable[[Progress], None] = _ignore
        if callable(progress):
            self._tell = progress
        elif progress and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=expected_frames, unit="frame", desc="dubbing", file=sys.stderr)
            self._tell = self._advance
        elif progress:
            self._tell = self._line

    def frame(self) -> None:
        """One more frame is written."""
        self._frames += 1
        self._tell(self._now("dubbing"))

    def close(self, stage: str = "done") -> None:
        """The last word; `stage` says how it ended."""
        self._plain_at = 0.0
        self._tell(self._now(stage))
        if self._bar is not None:
            self._bar.close()

    def _now(self, stage: str) -> Progress:
        elapsed, expected = time.monotonic() - self._start, self._expected
        if stage == "done":
            return Progress(stage, 100.0, 0.0, self._frames)
        if not expected:
            return Progress(stage, 0.0, None, self._frames)
        left = max(0, expected - self._frames)
        eta = elapsed * left / self._frames if self._frames >= FRAMES_FOR_ETA else None
        return Progress(stage, min(100.0, 100.0 * self._frames / expected), eta, self._frames)

    def _advance(self, now: Progress) -> None:
        assert self._bar is not None
        self._bar.update(now.frames - self._bar.n)

    def _line(self, now: Progress) -> None:
        if time.monotonic() - self._plain_at < PLAIN_INTERVAL:
            return
        self._plain_at = time.monotonic()
        eta = "" if now.eta is None else f", {now.eta:.0f} s to go"
        print(f"{now.stage}: {now.percent:.0f} %, {now.frames} frames{eta}", file=sys.stderr, flush=True)


def _ignore(now: Progress) -> None:
    """For jobs that tell nobody."""
