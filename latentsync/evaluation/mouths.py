"""Where the mouth of a file's largest face is and how far it opens, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from latentsync.evaluation.landmarks import LandmarkTrack, landmark_track
from latentsync.faces import alignment, lips, masks

TOUCH_MARGIN = 0.03  # of the aligned face's width, by which smoothed landmarks may move the region from ours


@dataclass(frozen=True)
class MouthTrack:
    """One file's mouth; nan in frames without a face, the gap also where the tracker bridged a gap in its sight."""

    times: np.ndarray  # (f,) seconds from the first frame
    gaps: np.ndarray  # (f,) inner-lip gap over face height
    boxes: np.ndarray  # (f, 4) mouth box: left, top, right, bottom px
    anchors: np.ndarray  # (f, 3, 2) alignment points px

    @property
    def size(self) -> np.ndarray:
        """(f,) width of the mouth box px."""
        return self.boxes[:, 2] - self.boxes[:, 0]

    @staticmethod
    def of(track: LandmarkTrack) -> MouthTrack:
        """The mouth of tracked landmarks."""
        rows = [_row(points, seen) for points, seen in zip(track.landmarks, track.seen, strict=True)]
        gaps, boxes, anchors = (np.array(column) for column in zip(*rows, strict=True))
        return MouthTrack(track.times, gaps, boxes, anchors)

    def gaps_at(self, times: np.ndarray) -> np.ndarray:
        """(len(times),) gaps on another clock of seconds, linear between frames; nan beside frames without a face and
        outside the track."""
        return np.interp(times, self.times, self.gaps, left=np.nan, right=np.nan)

    def touched(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """(h, w) bool: the pixels that a dub may change in frame `index` of `size` (w, h) px, TOUCH_MARGIN included."""
        import cv2

        region = np.zeros((size[1], size[0]), np.uint8)
        if np.isfinite(self.anchors[index]).all():
            outline, margin = _outline(self.anchors[index])
            cv2.fillPoly(region, [outline], (1,))
            cv2.polylines(region, [outline], isClosed=True, color=(1,), thickness=2 * margin)
        return region.astype(bool)

    def save(self, path: Path) -> None:
        """Write an .npz."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @staticmethod
    def load(path: Path) -> MouthTrack:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return MouthTrack(**{field.name: stored[field.name] for field in fields(MouthTrack)})


def _outline(anchors: np.ndarray) -> tuple[np.ndarray, int]:
    """The published mask's vertices (34, 2) int32 in px of the frame, and TOUCH_MARGIN there in px."""
    width, height = alignment.crop_size(masks.MASK_RESOLUTION)
    matrix = alignment.Aligner(masks.MASK_RESOLUTION).matrix(anchors).astype(np.float64)
    warped = np.array(masks.VERTICES) * np.array([width, height]) / masks.MASK_RESOLUTION
    outline = (warped - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    margin = TOUCH_MARGIN * width / alignment.matrix_scale(matrix)
    return np.round(outline).astype(np.int32), max(1, int(np.ceil(margin)))


def mouth_track(path: Path | str, *, seconds: float | None = None) -> MouthTrack:
    """Measure the largest face of a video, or of its first `seconds`. InputError: not a readable video."""
    return MouthTrack.of(landmark_track(path, seconds=seconds))


def _row(points: np.ndarray, seen: bool) -> tuple[float, np.ndarray, np.ndarray]:
    if np.isnan(points).any():
        return float("nan"), np.full(4, np.nan), np.full((3, 2), np.nan)
    gap = lips.lip_gap(points) if seen else float("nan")
    return gap, np.array(lips.mouth_box(points)), alignment.anchor_points(points)
