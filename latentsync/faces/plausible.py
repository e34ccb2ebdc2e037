"""Whether a mesh is a face at all, and whether that face can be dubbed."""

from __future__ import annotations

import numpy as np

from .alignment import Aligner, anchor_points, outside_share
from .lips import CHIN, FOREHEAD, INNER_BOTTOM, INNER_TOP, face_height
from .regions import EYE_CORNERS

PUPILS = (468, 473)
NOSE_TIP = 1
CHEEKS = (234, 454)  # edges of the face, the image's left and right
SMALLEST_FACE = 20.0  # px from cheek to cheek or from forehead to chin, the longer
# Place of the nose tip between the cheeks: 0.5 = frontal, 1 = on the edge of a cheek, more = beyond it.
FURTHEST_TURN = 1.1  # further is a profile, where the mesh loses the mouth's far half
UNSURE_TURN = 0.85  # further, the mesh must be sure of itself
SURE = 0.9  # score of a mesh that is
MOST_OUTSIDE = 0.5  # share of the aligned crop that may lie outside the frame
JUDGED_RESOLUTION = 256  # px of the crop it is judged on; the share hardly depends on it

TOO_SMALL = "face too small"
TURNED_AWAY = "face turned to profile"
OUTSIDE = "face mostly outside the frame"
NO_FACE = "no face found"


def geometry_score(landmarks: np.ndarray) -> float:
    """1 for a face whose parts are in the order and proportion of a face, 0 for a mesh that is none.

    landmarks: (478, 2) px. Judged in the face's own upright axes, so turned heads pass.
    """
    left, right = landmarks[list(EYE_CORNERS)].astype(np.float64)
    across = (right - left) / max(float(np.linalg.norm(right - left)), 1e-6)
    down = np.array([-across[1], across[0]])
    brows = anchor_points(landmarks)[:2].mean(axis=0)
    pupils = landmarks[list(PUPILS)].mean(axis=0)
    parts = [landmarks[FOREHEAD], brows, pupils, landmarks[NOSE_TIP], landmarks[INNER_TOP], landmarks[CHIN]]
    heights = np.array([part @ down for part in parts])
    height = heights[-1] - heights[0]
    width = float(np.linalg.norm(landmarks[CHEEKS[1]] - landmarks[CHEEKS[0]]))
    mouth = float((landmarks[INNER_BOTTOM] - landmarks[INNER_TOP]) @ down)
    ordered = bool((np.diff(heights) > 0).all())
    proportioned = height > 0 and 0.25 < width / height < 1.6 and -0.05 < mouth / height < 0.5
    return float(ordered and proportioned and np.isfinite(landmarks).all())


def unusable(landmarks: np.ndarray, score: float, frame_size: tuple[int, int]) -> str:
    """Why a face with these landmarks (478, 2) px cannot be dubbed in a frame of (w, h) px; "" where it can.

    score: of the mesh, in [0, 1].
    """
    width = float(np.linalg.norm(landmarks[CHEEKS[1]] - landmarks[CHEEKS[0]]))
    if max(width, face_height(landmarks)) < SMALLEST_FACE:
        return TOO_SMALL
    turned = abs(turn(landmarks) - 0.5) + 0.5
    if turned > FURTHEST_TURN or (turned > UNSURE_TURN and score < SURE):
        return TURNED_AWAY
    mouth = landmarks[[INNER_TOP, INNER_BOTTOM]].mean(axis=0)
    mouth_inside = bool(((mouth >= 0) & (mouth < frame_size)).all())
    matrix = Aligner(JUDGED_RESOLUTION).matrix(anchor_points(landmarks))
    if not mouth_inside or outside_share(matrix, JUDGED_RESOLUTION, frame_size) > MOST_OUTSIDE:
        return OUTSIDE
    return ""


def turn(landmarks: np.ndarray) -> float:
    """Place of the nose tip between the cheeks' edges: 0.5 frontal, near 0 or 1 (or beyond) in profile."""
    left, right = landmarks[list(CHEEKS)].astype(np.float64)
    across = right - left
    return float((landmarks[NOSE_TIP] - left) @ across / max(float(across @ across), 1e-9))
