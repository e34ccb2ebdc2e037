"""One pass over the pictures of a row: the video beside its source and the right answer, for all that look at them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from latentsync.evaluation.material import Take
from latentsync.evaluation.registry import Figures


@dataclass(frozen=True)
class Moment:
    """The pictures of one tick, (h, w, 3) uint8 each; None where there is no such file, or it has another size."""

    index: int
    made: np.ndarray
    source: np.ndarray | None
    right: np.ndarray | None


class Watcher(Protocol):
    """Looks at the moments of a row, in order, and has figures at the end."""

    def add(self, moment: Moment) -> None: ...

    def figures(self) -> Figures: ...


def watch(take: Take, watchers: Sequence[Watcher]) -> Figures:
    """Show all watchers every moment that all files of the row have; returns all their figures."""
    for moment in moments(take):
        for watcher in watchers:
            watcher.add(moment)
    return {key: figure for watcher in watchers for key, figure in watcher.figures().items()}


def moments(take: Take) -> Iterator[Moment]:
    """The pictures of a row, tick by tick, as far as all its files go."""
    beside = [_alike(take, path) for path in (take.source, take.right)]
    streams = [itertools.repeat(None) if path is None else take.material.frames(path) for path in beside]
    for made, *others in zip(take.material.frames(take.video), *streams, strict=False):
        yield Moment(made.index, made.image, *(None if other is None else other.image for other in others))


def _alike(take: Take, path: Path | None) -> Path | None:
    """`path`, or None where its pictures have another size than the row's; that is noted."""
    if path is None:
        return None
    made, other = (take.material.info(file) for file in (take.video, path))
    if (made.width, made.height) == (other.width, other.height):
        return path
    take.material.note(
        f"{take.video.name} has {made.width} x {made.height} px and {path.name} {other.width} x {other.height}: "
        "their pictures are not compared"
    )
    return None
