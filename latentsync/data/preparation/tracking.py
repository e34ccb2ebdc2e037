"""Stage 5: the speaker's face in every picture of a segment, cut out and aligned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latentsync.data.preparation.store import Dropped, write_array
from latentsync.faces.alignment import Aligner, anchor_points, crop
from latentsync.faces.detection import LandmarkDetector
from latentsync.faces.tracking import SpeakerChooser, track
from latentsync.media.reader import VideoReader
from latentsync.types import MODEL_FPS, Frame


@dataclass(frozen=True)
class Tick:
    """One picture on the clock of 25 a second, as `faces.tracking.track` reads it; `frame.index` is the tick."""

    frame: Frame
    joint: bool = False
    dub: bool = True


class TickStream:
    """Pictures of a video by tick, forwards only; nothing is decoded before the first is asked for."""

    def __init__(self, path: Path, ticks: np.ndarray) -> None:
        """ticks: (ticks,) number of the picture that each tick shows."""
        self._ticks = ticks
        self._frames = VideoReader(path).frames()
        self._last: Frame | None = None

    def between(self, start: int, stop: int) -> Iterator[Tick]:
        """The pictures of ticks `start` to `stop`, which may not lie before those asked for earlier."""
        for tick in range(start, stop):
            while self._last is None or self._last.index < self._ticks[tick]:
                self._last = next(self._frames)
            yield Tick(Frame(tick, tick / MODEL_FPS, self._last.image))


@dataclass
class Run:
    """Consecutive pictures of one face."""

    start: int  # tick of the first
    track: int
    aligner: Aligner
    crops: list[np.ndarray] = field(default_factory=list)  # each (r, r, 3) uint8
    landmarks: list[np.ndarray] = field(default_factory=list)  # each (478, 2) px of the whole picture


def longest_run(items: Iterable[Tick], resolution: int, detector: LandmarkDetector) -> Run | None:
    """The longest stretch in which the largest face (then the one followed) is seen without a break, crops aligned
    at `resolution` px. None where there is no face."""
    chooser, best, run = SpeakerChooser(), None, None
    for item, faces, _ in track(items, detector):
        image = item.frame.image
        face = chooser.choose(faces, (image.shape[1], image.shape[0]))
        if face is None:
            run = None
            continue
        if run is None or face.track != run.track:
            run = Run(item.frame.index, face.track, Aligner(resolution))
        run.crops.append(crop(image, run.aligner.matrix(anchor_points(face.landmarks)), resolution))
        run.landmarks.append(face.landmarks)
        best = run if best is None or len(run.crops) > len(best.crops) else best
    return best


def track_segment(
    items: Iterable[Tick],
    resolution: int,
    shortest: int,
    detector: LandmarkDetector,
    crops_file: Path,
    marks_file: Path,
) -> dict[str, Any]:
    """Write the crops (f, r, r, 3) uint8 and the landmarks (f, 478, 2) float32 of a segment's longest run.

    shortest: pictures that a run must have. Returns {start (tick), frames}. Dropped without a face, or where none is
    seen that long.
    """
    run = longest_run(items, resolution, detector)
    if run is None:
        raise Dropped("no face")
    if len(run.crops) < shortest:
        raise Dropped("face lost", f"seen for {len(run.crops) / MODEL_FPS:.2f} s at a time")
    write_array(crops_file, np.stack(run.crops))
    write_array(marks_file, np.stack(run.landmarks).astype(np.float32))
    return {"start": run.start, "frames": len(run.crops)}
