"""The moments at which a dub is furthest from what it should be, as pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from latentsync.evaluation.evaluate import DUB, Measured
from latentsync.evaluation.families.articulation import loudness
from latentsync.evaluation.families.silence import OPEN_GAP, silent_frames
from latentsync.evaluation.material import Take
from latentsync.evaluation.sheets import side_by_side

MOST = 4  # moments of one dub
APART = 8  # frames between two of them, so that one bad moment is shown once
LOST, AWRY = "no face is seen", ("not open enough", "too far open")
IN_SILENCE = "lips apart while nobody speaks"
BY_SOUND = ("hardly open where it is loud", "open where it is quiet")


def worst_moments(one: Measured) -> dict[int, str]:
    """{tick: what is wrong there} of the dub, the worst first: frames without a face, then those whose lip gap is
    furthest from the right one. Where none is known: lips apart while nobody speaks, then gaps that fit the loudness of
    speech least."""
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
    """How bad every tick is, and why; only the order counts."""
    wanted, lost = take.gaps_of(take.speaker), ~np.isfinite(take.gaps)
    if wanted is None:
        off, words = _unlike_the_sound(take), BY_SOUND
    else:
        off, words = np.nan_to_num(take.gaps - wanted), AWRY
    bad, reasons = np.abs(off), [words[int(value > 0)] for value in off]
    restless = silent_frames(take) & (take.gaps > OPEN_GAP) & (wanted is None)
    for ticks, reason, least in ((restless, IN_SILENCE, 2.0), (lost, LOST, 4.0)):
        bad[ticks] += least
        reasons = [reason if changed else before for changed, before in zip(ticks, reasons, strict=True)]
    return bad, reasons


def _unlike_the_sound(take: Take) -> np.ndarray:
    """(f,) rank of the lip gap less that of the loudness, each from 0 to 1; 0 where nobody speaks or is seen, and where
    lips that are shut rank above the loudness."""
    off, used = np.zeros(len(take.gaps)), np.isfinite(take.gaps) & take.heard() & take.spoken()
    if used.any():
        ranks = [rankdata(values) for values in (take.gaps[used], loudness(take.waveform, take.times[used]))]
        off[used] = (ranks[0] - ranks[1]) / used.sum()
    return np.where(take.gaps > OPEN_GAP, off, np.minimum(off, 0))


def draw_moments(one: Measured, ticks: Sequence[int]) -> list[bytes]:
    """A JPEG of every tick, in order: the mouth in the dub, in the source, and in the right answer where they are, all
    in one frame where the head is in the same place in them."""
    take = one.takes[DUB]
    videos = list(dict.fromkeys(path for path in (take.video, take.source, take.right) if path is not None))
    sizes = {(info.width, info.height) for info in map(take.material.info, videos)}
    pictures = [_pictures(take, path, ticks, videos[-1] if len(sizes) == 1 else path) for path in videos]
    return [_jpeg(side_by_side([shown[tick] for shown in pictures if tick in shown])) for tick in ticks]


def _pictures(take: Take, path: Path, ticks: Sequence[int], framed: Path) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """{tick: (picture, mouth box)} of a video; framed: the video whose box it is."""
    boxes = take.material.mouths(framed).boxes
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
