"""From decoded frames to shots: the speaker's face in each frame, and its aligned crop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from latentsync.faces import alignment
from latentsync.media.timeline import TimelineFrame
from latentsync.pipelines.progress import Stopwatch
from latentsync.types import Face

Tracked = tuple[TimelineFrame, list[Face], str]
Tracker = Callable[[Iterable[TimelineFrame]], Iterator[Tracked]]
"""Finds the faces of a stream of frames; the text says why there is none. See `faces.tracking.track`."""

OTHER_FACE = "the chosen face is not in this frame"


class Chooser(Protocol):
    """Says who speaks. See `faces.tracking.SpeakerChooser`."""

    def choose(self, faces: list[Face], frame_size: tuple[int, int]) -> Face | None:
        """frame_size: (w, h) in pixels."""
        ...


@dataclass(frozen=True)
class SceneCut:
    """A cut, at which every track ends. frame, time (s): of the new scene's first frame in the result."""

    frame: int
    time: float


@dataclass(frozen=True)
class Shot:
    """A frame and the face to dub in it; without a face (`reason` says why) it passes through untouched.

    matrix: (2, 3) from the frame to the crop; crop: (r, r, 3) uint8 RGB
    """

    item: TimelineFrame
    reason: str
    face: Face | None = None
    matrix: np.ndarray | None = None
    crop: np.ndarray | None = None


class Scanner:
    """Turns a timeline's frames into shots, one after the other; runs in a thread of its own."""

    def __init__(self, tracker: Tracker, chooser: Chooser, resolution: int, watch: Stopwatch) -> None:
        self._tracker, self._chooser, self._watch = tracker, chooser, watch
        self._resolution, self._aligner = resolution, alignment.Aligner(resolution)
        self._track: int | None = None

    def shots(self, frames: Iterable[TimelineFrame]) -> Iterator[Shot]:
        """One shot for each frame, in order."""
        for item, faces, reason in self._watch.each("track", self._tracker(self._watch.each("decode", frames))):
            with self._watch.stage("align"):
                shot = self._shot(item, faces, reason)
            yield shot

    def _shot(self, item: TimelineFrame, faces: list[Face], reason: str) -> Shot:
        image = item.frame.image
        face = self._chooser.choose(faces, (image.shape[1], image.shape[0]))
        if face is None or face.track != self._track:
            self._aligner.reset()
        self._track = face.track if face is not None else None
        if face is None:
            return Shot(item, reason or OTHER_FACE)
        matrix = self._aligner.matrix(alignment.anchor_points(face.landmarks))
        return Shot(item, "", face, matrix, alignment.crop(image, matrix, self._resolution))
