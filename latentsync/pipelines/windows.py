"""Overlapping windows over a sequence whose end is not known yet, and the fade from each to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from latentsync.types import MODEL_FPS, WINDOW_FRAMES, InputError

DEFAULT_OVERLAP = 4  # frames
INTERLEAVE_FROM = 50.0  # frames a second at which a track is split into sequences of about 25


def interleaved_sequences(fps: float) -> int:
    """How many sequences the frames of a track are dealt to, so that each runs at about 25 frames a second."""
    return round(fps / MODEL_FPS) if fps >= INTERLEAVE_FROM else 1


@dataclass(frozen=True)
class Window:
    """Positions `start` to `stop` of a sequence, denoised together; fewer than the window's size on short tracks.

    fresh: first position whose latents are not finished yet; those before it are there as context
    final: the sequence ends with it
    """

    start: int
    stop: int
    fresh: int
    final: bool


class WindowPlanner:
    """Plans the windows of one sequence while it grows."""

    def __init__(self, overlap: int = DEFAULT_OVERLAP, size: int = WINDOW_FRAMES) -> None:
        """overlap: frames that neighbours share, at most half a window. InputError otherwise."""
        if not 0 <= overlap <= size // 2:
            raise InputError(f"overlap is {overlap} frames; it must lie between 0 and {size // 2}.")
        self.overlap, self._size = overlap, size
        self._next = 0
        self._ended = False

    @property
    def next_start(self) -> int:
        """Where the next regular window starts. The last window of all may start up to a window earlier."""
        return self._next

    def plan(self, count: int, ended: bool) -> Iterator[Window]:
        """Windows that have become complete with `count` positions; the last ones when the sequence has `ended`.

        A window is held back until a position after it is there, so that each knows whether it is the final one.
        """
        while count > self._next + self._size:
            yield Window(self._next, self._next + self._size, self._next, final=False)
            self._next += self._size - self.overlap
        if ended and not self._ended and count:
            self._ended = True
            yield Window(max(0, count - self._size), count, self._next, final=True)


class CrossFade:
    """Finished latents of one sequence, window after window: the frames that two windows share go over linearly."""

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._tail: torch.Tensor | None = None

    def blend(self, window: Window, latents: torch.Tensor) -> torch.Tensor:
        """latents: (c, f, h, w) of the whole window -> (c, g, h, w) of the positions that are now final.

        These are g positions from `window.fresh` on; the window's last `overlap` wait for the next window, unless it
        is the final one.
        """
        length = window.stop - window.start
        out = latents[:, window.fresh - window.start : length].clone()
        if self._tail is not None:
            share = torch.arange(1, self._overlap + 1).to(out) / (self._overlap + 1)
            share = share[:, None, None]
            out[:, : self._overlap] = (1 - share) * self._tail + share * out[:, : self._overlap]
        if window.final:
            return out
        done = out.shape[1] - self._overlap
        self._tail = out[:, done:]
        return out[:, :done]
