"""Steadying a face's landmarks in time without making them lag."""

from __future__ import annotations

import numpy as np

from latentsync.types import MODEL_FPS

from .alignment import anchor_points, similarity

# One-euro filter (Casiez, Roussel and Vogel, CHI 2012), in widths of the face from brow to brow.
STILL_CUTOFF = 1.5  # Hz, of a head at rest
CUTOFF_PER_SPEED = 30.0  # Hz per face width a second: a head that moves is followed at once
SPEED_CUTOFF = 6.0  # Hz, of the speed's own smoothing


class PoseSmoother:
    """One-euro filter of one track's head pose, in frame order.

    Only the three anchor points are filtered, with one cutoff for all; the landmarks then follow by the similarity
    between the anchors found and the anchors filtered. So the head stops trembling while the lips keep every movement.
    """

    def __init__(self) -> None:
        self._anchors: np.ndarray | None = None  # filtered, (3, 2) px
        self._raw = np.zeros((3, 2))
        self._velocity = np.zeros((3, 2))  # face widths a second
        self._time = 0.0

    def smooth(self, landmarks: np.ndarray, time: float) -> np.ndarray:
        """(478, 2) float32 px from landmarks (478, 2) px of the next frame, `time` in seconds.

        Time may run backwards (a video played in reverse); where it stands still, a frame's usual length is taken.
        """
        anchors = anchor_points(landmarks)
        if self._anchors is None:
            self._anchors, self._raw, self._time = anchors, anchors, time
            return landmarks
        step = abs(time - self._time) or 1 / MODEL_FPS
        width = float(np.linalg.norm(anchors[1] - anchors[0]))
        velocity = (anchors - self._raw) / (width * step)
        self._velocity += _gain(SPEED_CUTOFF, step) * (velocity - self._velocity)
        speed = float(np.linalg.norm(self._velocity, axis=1).mean())
        gain = _gain(STILL_CUTOFF + CUTOFF_PER_SPEED * speed, step)
        steady = self._anchors + gain * (anchors - self._anchors)
        self._anchors, self._raw, self._time = steady, anchors, time
        matrix = similarity(anchors, steady)
        return (landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _gain(cutoff: float, step: float) -> float:
    """Share of the new value in a first-order low-pass of `cutoff` Hz at a step of `step` seconds."""
    return 1.0 / (1.0 + 1.0 / (2 * np.pi * cutoff * step))
