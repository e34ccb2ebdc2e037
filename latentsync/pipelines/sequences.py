"""One stretch of a track as the network gets it: windows whose references are known, and what they still need."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from latentsync.pipelines.scan import Shot
from latentsync.pipelines.windows import CrossFade, Window, WindowPlanner
from latentsync.types import WINDOW_FRAMES

ReferenceRule = Callable[[int, int, bool], int | None]
"""`(position, count, ended) -> position of its reference`, None while it cannot be known."""


@dataclass
class Slot:
    """A frame on its way through; `done` when it may leave. result: (r, r, 3) uint8 new crop, None = untouched."""

    shot: Shot
    done: bool = False
    result: np.ndarray | None = None


@dataclass
class Member:
    """A frame's place in its sequence. Latents are (4, h, w), kept as long as a window may ask for them."""

    slot: Slot | None  # None once the frame has left
    crop: np.ndarray  # (r, r, 3) uint8
    time: float  # seconds on the audio's clock
    masked_latents: torch.Tensor | None = None
    whole_latents: torch.Tensor | None = None


@dataclass(frozen=True)
class Job:
    """A window that can be denoised: its members and references, padded to the window's size by the last ones."""

    sequence: Sequence
    window: Window
    members: list[Member]
    references: list[Member]

    def noise_positions(self) -> range:
        """Frame numbers for the noise; they run on through the padding."""
        return range(self.window.start, self.window.start + WINDOW_FRAMES)

    def finished_members(self, count: int) -> list[Member]:
        """The `count` members whose latents are final after this window."""
        offset = self.window.fresh - self.window.start
        return self.members[offset : offset + count]


class Sequence:
    """Frames of one track, in order; hands out windows as soon as they can be denoised."""

    def __init__(self, track: int, overlap: int, distance: int, rule: ReferenceRule) -> None:
        """distance: how far back, in positions, a reference may lie."""
        self.track, self.fade = track, CrossFade(overlap)
        self._planner, self._distance, self._rule = WindowPlanner(overlap), distance, rule
        self._members: dict[int, Member] = {}
        self._count, self._ended = 0, False
        self._planned: deque[Window] = deque()

    def add(self, member: Member) -> None:
        """The next frame."""
        self._members[self._count] = member
        self._count += 1

    def end(self) -> None:
        """No more frames will come."""
        self._ended = True

    def jobs(self) -> Iterator[Job]:
        """Windows that became ready since the last call."""
        self._planned.extend(self._planner.plan(self._count, self._ended))
        while self._planned and (job := self._job(self._planned[0])) is not None:
            self._planned.popleft()
            yield job
        self._forget()

    def _job(self, window: Window) -> Job | None:
        positions = [min(p, window.stop - 1) for p in range(window.start, window.start + WINDOW_FRAMES)]
        references = [self._rule(position, self._count, self._ended) for position in positions]
        if None in references:
            return None
        members = [self._members[position] for position in positions]
        return Job(self, window, members, [self._members[r] for r in references if r is not None])

    def _forget(self) -> None:
        """Drop members that no window to come can ask for, as a frame of its own or as a reference."""
        earliest = self._planner.next_start - WINDOW_FRAMES  # the last window may start that early
        if self._planned:
            earliest = min(earliest, self._planned[0].start)
        if earliest >= self._distance:
            for position in [p for p in self._members if p < earliest - self._distance]:
                del self._members[position]
