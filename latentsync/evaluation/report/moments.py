"""The moments at which a dub is furthest from what it should be, as pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latentsync.evaluation.evaluate import DUB, Measured
from latentsync.evaluation.families.silence import OPEN_GAP, silent_frames
from latentsync.evaluation.material import Take
from latentsync.evaluation.sheets import side_by_side

MOST = 4  # moments of one dub
APART = 8  # frames between two of them, so that one bad moment is shown once
LOST, APART_IN_SILENCE, TOO_OPEN, TOO_SHUT = "no face is seen", "lips apart in silence", "too far open", "not open"


def worst_moments(one: Measured) -> dict[int, str]:
    """{tick: what is wrong there} of the dub, the worst first: frames without a face count most, then how far the lip
    gap is from the right one, in shares of the face's height, or open in silence where none is known."""
    take = one.takes[DUB]
    badness, reasons = _badness(take)
    chosen: dict[int, str] = {}
    for tick in np.argsort(-badness, kind="stable"):
        if len(chosen) == MOST or badness[tick] <= 0:
            break
        if all(abs(int(tick) - other) >= APART for other in chosen):
            chosen[int(tick)] = reasons[tick]
    return chosen


def _badness(take: Take) -> tuple[np.ndarray, list[str]]:
    gaps, wanted = take.gaps, take.gaps_of(take.speaker)
    bad, reasons = np.zeros(len(gaps)), [""] * len(gaps)
    off = np.zeros(len(gaps)) if wanted is None else np.nan_to_num(gaps - wanted)
    quiet = silent_frames(take) & (gaps > OPEN_GAP)
    for tick in range(len(gaps)):
        if not np.isfinite(gaps[tick]):
            bad[tick], reasons[tick] = 1.0, LOST
        elif quiet[tick] and wanted is None:
            bad[tick], reasons[tick] = gaps[tick], APART_IN_SILENCE
        elif off[tick]:
            bad[tick], reasons[tick] = abs(off[tick]), TOO_OPEN if off[tick] > 0 else TOO_SHUT
    return bad, reasons


def draw_moments(one: Measured, ticks: Sequence[int]) -> list[bytes]:
    """A JPEG of every tick, in order: the mouth in the dub, in the source, and in the right answer where they are."""
    take = one.takes[DUB]
    videos = list(dict.fromkeys(path for path in (take.video, take.source, take.right) if path is not None))
    pictures = [_pictures(take, path, ticks) for path in videos]
    return [_jpeg(side_by_side([shown[tick] for shown in pictures if tick in shown])) for tick in ticks]


def _pictures(take: Take, path: Path, ticks: Sequence[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """{tick: (picture, mouth box)} of a video."""
    boxes = take.material.mouths(path).boxes
    wanted, last = set(ticks), max(ticks, default=-1)
    found = {}
    for frame in take.material.frames(path):
        if frame.index > last:
            break
        if frame.index in wanted and frame.index < len(boxes):
            found[frame.index] = frame.image, boxes[frame.index]
    return found


def _jpeg(image: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
