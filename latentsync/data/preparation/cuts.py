"""Stage 3: scenes, between hard cuts and pictures that stand still."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from latentsync.faces.cuts import CutDetector
from latentsync.media.reader import VideoReader

MOST_HELD = 5  # ticks (0.2 s) that one picture may be shown; longer is a still or a gap in the file, not speech


def cuts(path: Path) -> dict[str, Any]:
    """{cuts}: numbers of the source's pictures that begin a new scene, the first one not among them."""
    detector = CutDetector()
    return {"cuts": [frame.index for frame in VideoReader(path).frames() if detector.update(frame.image)]}


def scenes(ticks: np.ndarray, pictures: list[int]) -> list[tuple[int, int]]:
    """(start, stop) of each scene in ticks, in order, from the table of pictures and from those that begin a scene."""
    changes = np.flatnonzero(np.diff(ticks)) + 1
    starts, stops = np.append(0, changes), np.append(changes, len(ticks))
    held = stops - starts > MOST_HELD
    edges = {0, len(ticks), *np.searchsorted(ticks, pictures), *starts[held], *stops[held]}
    bounds = sorted(int(edge) for edge in edges)
    return list(pairwise(bounds))


def stands_still(ticks: np.ndarray, start: int, stop: int) -> bool:
    """Whether a scene is one and the same picture for longer than speech allows."""
    return stop - start > MOST_HELD and ticks[start] == ticks[stop - 1]
