"""Faces over time: numbered tracks, short gaps bridged, cuts respected, and the choice of who is dubbed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from latentsync.types import MODEL_FPS, Face, Frame, InputError

from .cuts import CutDetector
from .detection import LandmarkDetector, default_detector
from .plausible import NO_FACE, unusable
from .regions import landmark_box, overlap
from .smoothing import PoseSmoother

MAX_GAP = 10  # frames without the face that are bridged; 0.4 s at 25 fps
FURTHEST_STEP = 0.6  # of the face's size that its centre may move from one frame to the next
STEP_PER_MISS = 0.1  # more of it for every frame that it was not seen
LARGEST_GROWTH = 1.6  # ratio of sizes between two frames
SAME_PLACE = 0.3  # overlap of the boxes of a speaker who disappeared and of one who appears
NOT_DUBBED = "outside the dubbed part"


class TrackedItem(Protocol):
    """What `track` reads: one picture, and whether it is continuous with the one before and to be dubbed."""

    @property
    def frame(self) -> Frame: ...
    @property
    def joint(self) -> bool: ...
    @property
    def dub(self) -> bool: ...


Item = TypeVar("Item", bound=TrackedItem)
FaceChoice = int | tuple[float, float] | None


@dataclass
class _Track:
    """One face as long as it is followed."""

    number: int
    face: Face  # where it was last seen
    smoother: PoseSmoother = field(default_factory=PoseSmoother)
    missed: int = 0  # frames since then


class FaceTracker:
    """Gives every face of a video, frame by frame, the number of its track. Faces that cannot be dubbed end theirs."""

    def __init__(self, detector: LandmarkDetector | None = None, max_gap: int = MAX_GAP) -> None:
        self._detector = detector or default_detector()
        self._max_gap = max_gap
        self._cuts = CutDetector()
        self._tracks: list[_Track] = []
        self._numbers = 0
        self._frames = 0
        self.reason = ""  # why the last frame had no usable face
        self.new_scene = False  # whether the last frame came after a cut that its picture shows
        self.returned: dict[int, tuple[Face, int]] = {}  # by track that came back: its last face, frames missed since

    @property
    def open_gap(self) -> int:
        """Frames, up to the last one, that a track which may still come back has missed."""
        return max((track.missed for track in self._tracks), default=0)

    def reset(self) -> None:
        """End every track: the next frame has nothing to do with the one before."""
        self._tracks.clear()
        self._detector.reset()

    def update(self, image: np.ndarray, *, cut: bool = False, time: float | None = None) -> list[Face]:
        """Usable faces in image (h, w, 3) uint8, the next frame of the video, largest first.

        cut: it is not continuous with the frame before (scene cuts are found here too); time: seconds, for the
        smoothing; 25 frames a second where it is not given.
        """
        self.new_scene = self._cuts.update(image)
        if self.new_scene or cut:
            self.reset()
        time = self._frames / MODEL_FPS if time is None else time
        self._frames += 1
        found = self._detector.detect(image)
        reasons = [unusable(landmarks, score, (image.shape[1], image.shape[0])) for landmarks, score in found]
        self.reason = "" if "" in reasons else (reasons[0] if reasons else NO_FACE)
        pairs = self._associate([landmark_box(landmarks) for landmarks, _ in found])
        return self._continue(found, reasons, pairs, time)

    def _associate(self, boxes: list[tuple[float, float, float, float]]) -> dict[int, _Track]:
        """Which track each box (by index) continues: the nearest pairs first."""
        costs = [(_distance(track, box), index, track) for track in self._tracks for index, box in enumerate(boxes)]
        pairs: dict[int, _Track] = {}
        for cost, index, track in sorted(costs, key=lambda entry: entry[:2]):
            if cost <= 1 and index not in pairs and all(track is not taken for taken in pairs.values()):
                pairs[index] = track
        return pairs

    def _continue(
        self, found: list[tuple[np.ndarray, float]], reasons: list[str], pairs: dict[int, _Track], time: float
    ) -> list[Face]:
        """Faces of this frame; tracks are begun, continued, missed or ended."""
        faces, living = [], []
        self.returned = {}
        for index, (landmarks, score) in enumerate(found):
            if reasons[index]:
                continue
            track = pairs.get(index) or self._new_track(landmarks, score)
            if track.missed:
                self.returned[track.number] = track.face, track.missed
            smoothed = track.smoother.smooth(landmarks, time)
            track.face, track.missed = Face(landmark_box(smoothed), smoothed, track.number, score), 0
            faces.append(track.face)
            living.append(track)
        continued = {track.number for track in pairs.values()}
        for track in self._tracks:
            if track.number not in continued and track.missed < self._max_gap:
                track.missed += 1
                living.append(track)
        self._tracks = living
        return faces

    def _new_track(self, landmarks: np.ndarray, score: float) -> _Track:
        self._numbers += 1
        number = self._numbers - 1
        return _Track(number, Face(landmark_box(landmarks), landmarks, number, score))


def parse_face(value: int | str | tuple[float, float] | list[float] | None) -> FaceChoice:
    """`2`, `"2"`, `"640,360"`, `(640, 360)` or None. InputError for anything else."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    parts = value.split(",") if isinstance(value, str) else value
    try:
        if isinstance(value, str) and len(parts) == 1:  # type: ignore[arg-type]
            return parse_face(int(value))
        x, y = (float(part) for part in parts)  # type: ignore[union-attr]
        return x, y
    except (TypeError, ValueError) as error:
        raise InputError(f"face is {value!r}; give a number from 0 (the largest) or a point X,Y in pixels.") from error


class SpeakerChooser:
    """Who of several faces is dubbed.

    face: None, the largest, kept as long as its track lasts; a number, the place by size (0 = largest) among the faces
    that a shot begins with; (x, y) px, the face at that point when a shot begins. A shot begins where no track known
    before is left. By number or point, a person who disappears in the middle of a shot is not replaced by another
    one: nobody is dubbed until a face appears at the same place.
    """

    def __init__(self, face: FaceChoice = None) -> None:
        self._wanted = face
        self._chosen: Face | None = None
        self._known: set[int] = set()

    def choose(self, faces: list[Face], frame_size: tuple[int, int]) -> Face | None:
        """The face to dub in this frame of (w, h) px, None where there is none; frames in order."""
        new_shot = not any(face.track in self._known for face in faces)
        self._known |= {face.track for face in faces}
        if not faces:
            return None
        if new_shot:
            self._known = {face.track for face in faces}
            self._chosen = None
        chosen = self._next_choice(faces) if self._chosen else self._first_choice(faces, frame_size)
        self._chosen = chosen or self._chosen
        return chosen

    def _first_choice(self, faces: list[Face], frame_size: tuple[int, int]) -> Face | None:
        by_size = sorted(faces, key=lambda face: -_size(face.box))
        if self._wanted is None:
            return by_size[0]
        if isinstance(self._wanted, int):
            return by_size[self._wanted] if 0 <= self._wanted < len(faces) else None
        point = np.clip(self._wanted, 0, np.array(frame_size) - 1)
        nearest = min(faces, key=lambda face: float(np.linalg.norm(_centre(face.box) - point)))
        return nearest if np.linalg.norm(_centre(nearest.box) - point) <= _size(nearest.box) else None

    def _next_choice(self, faces: list[Face]) -> Face | None:
        last = self._chosen
        assert last is not None
        for face in faces:
            if face.track == last.track:
                return face
        if self._wanted is None:
            return max(faces, key=lambda face: _size(face.box))
        nearest = max(faces, key=lambda face: overlap(face.box, last.box))
        return nearest if overlap(nearest.box, last.box) > SAME_PLACE else None


@dataclass
class _Held:
    """A frame kept back until no gap in it can be bridged any more."""

    item: TrackedItem
    faces: list[Face]
    reason: str


def track(
    frames: Iterable[Item],
    detector: LandmarkDetector | None = None,
    max_gap: int = MAX_GAP,
    on_cut: Callable[[Item], None] | None = None,
) -> Iterator[tuple[Item, list[Face], str]]:
    """(item, its faces largest first, why there is none) for every item in order.

    Keeps back at most `max_gap` + 1 frames: a face that is missing that long and comes back is filled in between by
    straight lines, with a score of 0. Frames that are not to be dubbed are not searched.
    on_cut: told of every frame that begins a new scene, where tracks end; joints are no scenes of their own.
    """
    tracker = FaceTracker(detector, max_gap)
    tracker.reset()
    held: deque[_Held] = deque()
    pause = False
    for item in frames:
        if not item.dub:
            yield from _release(held, 0)
            pause = True
            yield item, [], NOT_DUBBED
            continue
        faces = tracker.update(item.frame.image, cut=item.joint or pause, time=item.frame.time)
        if on_cut is not None and tracker.new_scene and not (item.joint or pause):
            on_cut(item)
        pause = False
        held.append(_Held(item, faces, tracker.reason))
        for face in faces:
            if face.track in tracker.returned:
                before, missed = tracker.returned[face.track]
                _bridge([held[index] for index in range(-1 - missed, -1)], before, face)
        yield from _release(held, tracker.open_gap)
    yield from _release(held, 0)


def _release(held: deque[_Held], keep: int) -> Iterator[tuple]:
    """The oldest held frames until only `keep` are left."""
    while len(held) > keep:
        entry = held.popleft()
        yield entry.item, entry.faces, entry.reason


def _bridge(missing: list[_Held], before: Face, after: Face) -> None:
    """Put a face into the frames that missed it, on straight lines from `before` to `after`."""
    for place, entry in enumerate(missing, start=1):
        share = place / (len(missing) + 1)
        landmarks = ((1 - share) * before.landmarks + share * after.landmarks).astype(np.float32)
        face = Face(landmark_box(landmarks), landmarks, after.track, score=0.0)
        entry.faces = sorted([*entry.faces, face], key=lambda other: -_size(other.box))
        entry.reason = ""


def _size(box: tuple[float, float, float, float]) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _centre(box: tuple[float, float, float, float]) -> np.ndarray:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def _distance(track: _Track, box: tuple[float, float, float, float]) -> float:
    """How far a face in `box` is from continuing `track`: up to 1 it may, 0 is the same place and size."""
    sizes = sorted((_size(track.face.box), _size(box)))
    if sizes[1] > LARGEST_GROWTH * max(sizes[0], 1e-6):
        return np.inf
    reach = (FURTHEST_STEP + STEP_PER_MISS * track.missed) * sizes[1]
    return float(np.linalg.norm(_centre(track.face.box) - _centre(box))) / reach
