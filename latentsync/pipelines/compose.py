"""The end of the stream: new crops pasted into their frames, frames encoded and counted, in a thread of its own."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from latentsync.faces.paste import ColourMatch, paste_back
from latentsync.pipelines.progress import ProgressReporter, Stopwatch
from latentsync.pipelines.report import FrameCounts, FrameLog
from latentsync.pipelines.sequences import Slot


class Writer(Protocol):
    """Takes the finished frames. See `media.writer.VideoWriter`."""

    def write(self, image: np.ndarray, time: float, duration: float) -> None:
        """image: (h, w, 3) uint8 RGB; time, duration: of its presentation, in seconds."""
        ...


class Composer:
    """Consumes frames in order."""

    def __init__(
        self,
        writer: Writer,
        mask: np.ndarray,
        region: str,
        log: FrameLog | None,
        watch: Stopwatch,
        progress: ProgressReporter,
    ) -> None:
        """mask: (r, r) inpaint mask of the crops; region: of the face that is shown, see `faces.masks.REGIONS`"""
        self._writer, self._mask, self._region, self._log = writer, mask, region, log
        self._watch, self._progress = watch, progress
        self._colour = ColourMatch()
        self._track: int | None = None
        self.counts = FrameCounts()

    def take(self, slot: Slot) -> None:
        """Paste, write, count."""
        item = slot.shot.item
        with self._watch.stage("paste"):
            image = self._image(slot)
        with self._watch.stage("write"):
            self._writer.write(image, item.out_time, item.duration)
        self.counts.add(slot)
        if self._log is not None:
            self._log.add(slot)
        self._progress.frame()

    def _image(self, slot: Slot) -> np.ndarray:
        shot = slot.shot
        track = None if shot.face is None else shot.face.track
        if track != self._track:
            self._colour.reset()
        self._track = track
        if slot.result is None:
            return shot.item.frame.image
        assert shot.matrix is not None and shot.face is not None
        image, landmarks = shot.item.frame.image, shot.face.landmarks
        return paste_back(image, slot.result, shot.matrix, self._mask, self._colour, landmarks, self._region)
