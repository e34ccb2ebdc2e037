"""Turned squares around faces: cut one out of a frame, and carry points found in it back to the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .alignment import warp

FACE_MARGIN = 1.5  # side of a region over the longer side of the face, as the mesh network was trained
EYE_CORNERS = (33, 263)  # outer corners, the image's left and right


@dataclass(frozen=True)
class Region:
    """A square of a frame, in px of the frame (pixel centres at whole numbers)."""

    x: float  # centre
    y: float
    side: float
    angle: float = 0.0  # radians that the face in it is turned clockwise on screen

    def matrix(self, size: int) -> np.ndarray:
        """(2, 3) frame px -> px of the upright square of `size` px."""
        scale = size / self.side
        cos, sin = scale * np.cos(self.angle), scale * np.sin(self.angle)
        linear = np.array([[cos, sin], [-sin, cos]])
        return np.column_stack([linear, (size - 1) / 2 - linear @ (self.x, self.y)])

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """(size, size, 3) uint8, the region upright; grey where it reaches outside the frame."""
        return warp(image, self.matrix(size), (size, size))

    def to_frame(self, points: np.ndarray, size: int) -> np.ndarray:
        """(n, 2) float32 frame px of points (n, 2) given in px of the cut-out."""
        matrix = self.matrix(size)
        return ((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).astype(np.float32)

    def grown(self, factor: float) -> Region:
        """The same place with a side `factor` times as long, upright."""
        return Region(self.x, self.y, self.side * factor)


def region_around(landmarks: np.ndarray) -> Region:
    """The region the mesh network wants for a face with these landmarks (478, 2) px."""
    left, right = landmarks[list(EYE_CORNERS)]
    angle = float(np.arctan2(right[1] - left[1], right[0] - left[0]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright = landmarks @ turn.T
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y = (low + high) / 2 @ turn
    return Region(float(x), float(y), FACE_MARGIN * float((high - low).max()), angle)


def landmark_box(landmarks: np.ndarray) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) px of all landmarks (n, 2)."""
    (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom), in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def tiles(width: int, height: int, side: int, shared: float) -> list[tuple[int, int, int, int]]:
    """Squares (left, top, right, bottom) of `side` px that cover the frame, overlapping by at least `shared` px."""
    columns, rows = (_starts(length, side, shared) for length in (width, height))
    return [(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns]


def _starts(length: int, side: int, shared: float) -> list[int]:
    """First px of each of the fewest evenly spread spans of `side` px that cover `length` px."""
    count = 1 if length <= side else int(np.ceil((length - shared) / (side - shared)))
    return [round(start) for start in np.linspace(0, max(0, length - side), count)]
