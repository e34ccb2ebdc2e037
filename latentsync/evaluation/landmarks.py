"""Landmarks of a file's largest face, frame by frame, and how far two files' lips lie apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentsync.data.preparation.tracking import Tick
from latentsync.faces.lips import INNER_LIP, OUTER_LIP
from latentsync.types import Frame

if TYPE_CHECKING:
    from latentsync.faces.detection import LandmarkDetector
    from latentsync.faces.tracking import FaceChoice

LANDMARKS = 478


@dataclass(frozen=True)
class LandmarkTrack:
    """One file's largest face; landmarks are nan in frames without one."""

    times: np.ndarray  # (f,) seconds from the first frame
    landmarks: np.ndarray  # (f, 478, 2) float32 px
    seen: np.ndarray  # (f,) bool: measured; False where there is no face or the tracker bridged a gap in its sight

    def save(self, path: Path) -> None:
        """Write an .npz."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @staticmethod
    def load(path: Path) -> LandmarkTrack:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return LandmarkTrack(**{field.name: stored[field.name] for field in fields(LandmarkTrack)})


def _until(frames: Iterable[Frame], seconds: float | None) -> Iterator[Frame]:
    for frame in frames:
        if seconds is not None and frame.time >= seconds:
            return
        yield frame


def landmark_track(path: Path | str, *, seconds: float | None = None) -> LandmarkTrack:
    """Track the largest face of a video, or of its first `seconds`. InputError: not a readable video."""
    from latentsync.media.reader import VideoReader

    return track_of(VideoReader(path).frames(), seconds=seconds)


def track_of(
    frames: Iterable[Frame],
    *,
    seconds: float | None = None,
    detector: LandmarkDetector | None = None,
    face: FaceChoice = None,
) -> LandmarkTrack:
    """`landmark_track` of pictures in order, on whatever clock their times are; detector: None takes the default;
    face: whose landmarks, None the largest's, see `faces.tracking.SpeakerChooser`."""
    from latentsync.faces.detection import default_detector
    from latentsync.faces.tracking import SpeakerChooser, track

    chooser, rows, seen, times = SpeakerChooser(face), [], [], []
    for item, found, _ in track(map(Tick, _until(frames, seconds)), detector or default_detector()):
        height, width = item.frame.image.shape[:2]
        chosen = chooser.choose(found, (width, height))
        rows.append(np.full((LANDMARKS, 2), np.nan) if chosen is None else chosen.landmarks)
        seen.append(chosen is not None and chosen.score > 0)  # a face that the tracker put into a gap was not measured
        times.append(item.frame.time)
    return LandmarkTrack(np.array(times), np.array(rows, np.float32), np.array(seen, bool))


def lip_distance(found: LandmarkTrack, wanted: LandmarkTrack) -> np.ndarray:
    """(f,) px: mean distance of the 40 outer and inner lip points, over the frames both have; nan without a face.

    The landmark distance (LMD) of Chen et al., "Lip Movements Generation at a Glance" (2018), in the frame's own
    pixels: both files must show the head in the same place, as a dub and its right answer do.
    """
    frames = min(len(found.times), len(wanted.times))
    points = list(OUTER_LIP + INNER_LIP)
    apart = found.landmarks[:frames, points].astype(np.float64) - wanted.landmarks[:frames, points]
    return np.linalg.norm(apart, axis=-1).mean(axis=-1)
