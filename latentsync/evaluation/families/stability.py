"""What trembles, jumps or changes its colour though the source does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentsync.evaluation.families.pictures import Moment
from latentsync.evaluation.material import Take
from latentsync.evaluation.mouths import MouthTrack
from latentsync.evaluation.quality import change, cut, joint_ratio, pixel_box
from latentsync.evaluation.registry import REPORT, SOURCE, Figure, Figures, Missing, known
from latentsync.faces import alignment, masks
from latentsync.faces.paste import COLOUR_BAND
from latentsync.types import MODEL_FPS, WINDOW_FRAMES

COLOUR_SIZE = 96  # px of the aligned face that colours are compared at
COLOUR_EVERY = 5  # frames
MIN_BAND = 20  # px that make a strip


class Stability:
    """Flicker, jumps where windows of the denoiser meet, and colour at the border of what was made."""

    def __init__(self, take: Take, report: dict[str, Any] | None) -> None:
        """report: of `families.cost.read_report`, which tells where windows met."""
        self._take, self._report = take, report
        self._mouths: MouthTrack | None = None if take.source is None else take.material.mouths(take.source)
        self._landmarks = np.zeros(0) if take.source is None else take.material.track(take.source).landmarks
        self._same = take.video == take.source
        self._before: list[Moment] = []  # the last two
        self._tremble: list[tuple[float, ...]] = []  # second and first differences of made, and of source
        self._changes: list[float] = []
        self._shifts: list[float] = []

    def add(self, moment: Moment) -> None:
        """See Watcher."""
        self._changes.append(float("nan"))
        if self._mouths is not None and moment.source is not None and moment.index < len(self._mouths.times):
            self._compare(moment, self._mouths)
        self._before = [*self._before, moment][-2:]

    def _compare(self, moment: Moment, mouths: MouthTrack) -> None:
        if not np.isfinite(mouths.boxes[moment.index]).all():
            return
        assert moment.source is not None
        box = pixel_box(mouths.boxes[moment.index], (moment.made.shape[1], moment.made.shape[0]))
        recent = [*self._before, moment]
        made = [cut(shown.made, box).astype(np.float32) for shown in recent]
        if len(recent) > 1:
            self._changes[-1] = change(made[-1], made[-2])
        if len(recent) == 3:
            source = [cut(shown.source, box).astype(np.float32) for shown in recent if shown.source is not None]
            self._tremble.append((_bend(made), change(made[2], made[1]), _bend(source), change(source[2], source[1])))
        if moment.index % COLOUR_EVERY == 0 and not self._same:
            self._shifts += border_shift(moment.made, moment.source, self._landmarks[moment.index])

    def figures(self) -> Figures:
        """See Watcher."""
        if self._take.source is None:
            return dict.fromkeys(("flicker", "joint_jitter", "colour_shift"), Missing(f"give {SOURCE}"))
        shift = 0.0 if self._same else float(np.mean(self._shifts)) if self._shifts else float("nan")
        return {
            "flicker": known(self._flicker(), "the mouth's picture never changes in one of the two videos"),
            "joint_jitter": self._jitter(),
            "colour_shift": known(shift, "no frame shows the border of the face"),
        }

    def _flicker(self) -> float:
        """Second over first differences in time, so that it does not grow with how much the mouth moves; of the dub
        over that of the source. Steady motion has little of it, noise that is new in every frame the most (3 ** 0.5).
        """
        if not self._tremble:
            return float("nan")
        made_bend, made_change, bend, changed = np.mean(self._tremble, axis=0)
        moving = made_change > 0 and bend > 0
        return float((made_bend / made_change) / (bend / changed)) if moving else float("nan")

    def _jitter(self) -> Figure:
        if self._report is None:
            return Missing(f"give {REPORT}")
        across = joints(self._report, len(self._changes))
        return known(joint_ratio(np.array(self._changes), across), "no two windows of the dub meet")


def _bend(images: list[np.ndarray]) -> float:
    """Mean absolute second difference of three pictures in time: large where they tremble, 0 where they glide."""
    return float(np.abs(images[0] - 2 * images[1] + images[2]).mean())


def border_shift(made: np.ndarray, source: np.ndarray, landmarks: np.ndarray) -> list[float]:
    """Grey levels between the mean colours of both pictures in a strip inside the border of what dubbing replaces: the
    larger of the strips inside the face's border and inside the mouth's. Medians: where a jaw moved, other things show.

    made, source: (h, w, 3) uint8; landmarks: (478, 2) px. Empty where no strip is seen.
    """
    if not np.isfinite(landmarks).all():
        return []
    matrix = alignment.Aligner(COLOUR_SIZE).matrix(alignment.anchor_points(landmarks))
    pictures = [alignment.crop(image, matrix, COLOUR_SIZE).astype(np.float32) for image in (made, source)]
    width, height = alignment.crop_size(COLOUR_SIZE)
    points = (landmarks @ matrix[:, :2].T + matrix[:, 2]) * (COLOUR_SIZE / width, COLOUR_SIZE / height)
    difference, found = pictures[0] - pictures[1], []
    for region in masks.REGIONS.values():
        shown = np.minimum(masks.inpaint_mask(COLOUR_SIZE), region(points, COLOUR_SIZE))
        band = (shown >= 0.5) & (masks.feathered(shown, COLOUR_BAND * COLOUR_SIZE) < 1)
        if band.sum() >= MIN_BAND:
            found.append(float(np.linalg.norm(np.median(difference[band], axis=0)) / np.sqrt(3)))
    return [max(found)] if found else []


def joints(report: dict[str, Any], ticks: int) -> np.ndarray:
    """(ticks,) bool: ticks of 1/25 s at which the dub fades from one window to the next, or has just done so.

    A sequence is an unbroken run of dubbed frames of one track; its windows have WINDOW_FRAMES frames and share the
    report's overlap. Above 50 frames a second a run is dealt to several sequences: these give none.
    """
    found = np.zeros(ticks, bool)
    if report["fps"] >= 2 * MODEL_FPS:
        return found
    overlap = report.get("options", {}).get("overlap", 0)
    for run in _runs(report.get("frames", [])):
        for first in fresh_starts(len(run), overlap):
            for frame in run[first : first + overlap + 1]:
                tick = round(frame["time"] * MODEL_FPS)
                if tick < ticks:
                    found[tick] = True
    return found


def fresh_starts(frames: int, overlap: int) -> list[int]:
    """Where the second and later windows of a sequence of `frames` begin."""
    step = WINDOW_FRAMES - overlap
    return [first for first in range(step, frames, step) if first - step + WINDOW_FRAMES < frames]


def _runs(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    runs: list[list[dict[str, Any]]] = []
    before: tuple[bool, Any] = (False, None)
    for row in rows:
        now = (bool(row.get("dubbed")), row.get("track"))
        if now[0]:
            if now != before:
                runs.append([])
            runs[-1].append(row)
        before = now
    return runs
