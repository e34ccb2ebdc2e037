"""Where faces may be in a frame, also small ones: whole-frame and tiled search, and when to pay for which."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .mesh import bundled_mediapipe
from .quiet import without_chatter
from .regions import Region, tiles

FINDER_CONFIDENCE = 0.4
SHORT_RANGE, FULL_RANGE = 0, 1  # mediapipe's two detectors: large faces, faces down to a 16th of the picture
BOX_MARGIN = 1.5  # side of the region over the longer side of the detector's box
TILE = 480  # px; a face of 40 px fills the 12th of it that the full-range detector finds every time
TILES_ACROSS = 5  # at most, so that the search of a huge frame stays affordable
WHOLE_IS_ENOUGH = 1.5  # tiles along the longer side up to which the search of the whole frame does as well
TILE_OVERLAP = 1 / 6  # of the tile: a small face on a tile's edge is whole in its neighbour

# Waits between searches, in frames, while nobody is followed: they double up to a limit.
FIRST_WAIT = 1
LONGEST_WAIT = {"frame": 8, "tiles": 64}
# Waits while somebody is followed, for others to appear.
FOLLOWING_WAIT = {"frame": 12, "tiles": 100}


class Finder(Protocol):
    """A network that says where faces are in a picture."""

    def find(self, image: np.ndarray) -> list[Region]:
        """Regions for the mesh network, in px of image (h, w, 3) uint8."""
        ...


class BundledFinder:
    """mediapipe 0.10's short-range and full-range face detectors."""

    def __init__(self) -> None:
        with without_chatter():
            detection = bundled_mediapipe().solutions.face_detection
            self._models = [
                detection.FaceDetection(model_selection=kind, min_detection_confidence=FINDER_CONFIDENCE)
                for kind in (SHORT_RANGE, FULL_RANGE)
            ]
            self.find(np.zeros((64, 64, 3), np.uint8))

    def find(self, image: np.ndarray) -> list[Region]:
        """See Finder."""
        picture = np.ascontiguousarray(image)
        found = [detection for model in self._models for detection in model.process(picture).detections or ()]
        return [_region(detection, image.shape[1], image.shape[0]) for detection in found]


def find_in_tiles(finder: Finder, image: np.ndarray) -> list[Region]:
    """Regions of small faces: `finder` on overlapping tiles of image (h, w, 3); none if a tile is nearly the frame."""
    height, width = image.shape[:2]
    side = max(TILE, max(height, width) // TILES_ACROSS)
    if max(height, width) <= WHOLE_IS_ENOUGH * side:
        return []
    spans = tiles(width, height, side, side * TILE_OVERLAP)
    return [region for span in spans for region in find_within(finder, image, span)]


def find_within(finder: Finder, image: np.ndarray, span: tuple[int, int, int, int]) -> list[Region]:
    """Regions found in one part (left, top, right, bottom) of the frame, in px of the frame."""
    left, top, right, bottom = span
    found = finder.find(image[top:bottom, left:right])
    return [Region(region.x + left, region.y + top, region.side, region.angle) for region in found]


class SearchSchedule:
    """How many frames to wait before the next search of one kind ("frame" or "tiles"), with back-off."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.reset()

    def reset(self) -> None:
        """Search in the next frame."""
        self._due, self._wait = 0, FIRST_WAIT

    def due(self) -> bool:
        """Whether to search in this frame; call once a frame."""
        self._due -= 1
        return self._due < 0

    def searched(self, following: bool) -> None:
        """A search was done in this frame; `following`: somebody is followed now."""
        if following:
            self._due, self._wait = FOLLOWING_WAIT[self._kind], FIRST_WAIT
        else:
            self._due = self._wait - 1
            self._wait = min(2 * self._wait, LONGEST_WAIT[self._kind])


def _region(detection, width: int, height: int) -> Region:
    """The region around a mediapipe detection: its box widened, turned so that the eyes are level."""
    box = detection.location_data.relative_bounding_box
    eyes = detection.location_data.relative_keypoints[:2]
    angle = np.arctan2((eyes[1].y - eyes[0].y) * height, (eyes[1].x - eyes[0].x) * width)
    side = BOX_MARGIN * max(box.width * width, box.height * height)
    return Region(
        float((box.xmin + box.width / 2) * width), float((box.ymin + box.height / 2) * height), side, float(angle)
    )
