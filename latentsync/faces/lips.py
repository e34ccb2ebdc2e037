"""Measures of the mouth, from landmarks."""

from __future__ import annotations

import numpy as np

OUTER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
INNER_TOP, INNER_BOTTOM = 13, 14
FOREHEAD, CHIN = 10, 152
NOSE_BASE = 2
MOUTH_MARGIN = 0.25  # of the lips' width, added on every side of the mouth box


def face_height(landmarks: np.ndarray) -> float:
    """Forehead to chin in px; landmarks (478, 2) px."""
    return float(np.linalg.norm(landmarks[FOREHEAD] - landmarks[CHIN]))


def lip_gap(landmarks: np.ndarray) -> float:
    """Opening of the inner lips as a share of the face's height; landmarks (478, 2) px."""
    return float(np.linalg.norm(landmarks[INNER_TOP] - landmarks[INNER_BOTTOM])) / face_height(landmarks)


def mouth_box(landmarks: np.ndarray, margin: float = MOUTH_MARGIN) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) px around the outer lips, `margin` of their width wider on every side."""
    lips = landmarks[list(OUTER_LIP)]
    low, high = lips.min(axis=0), lips.max(axis=0)
    extra = margin * (high[0] - low[0])
    return (float(low[0] - extra), float(low[1] - extra), float(high[0] + extra), float(high[1] + extra))


def lip_shape(landmarks: np.ndarray) -> np.ndarray:
    """(40, 2): outer and inner lip points relative to the nose base, upright, as shares of the face's height."""
    points = landmarks[list(OUTER_LIP + INNER_LIP)] - landmarks[NOSE_BASE]
    down = (landmarks[CHIN] - landmarks[FOREHEAD]) / face_height(landmarks)
    right = np.array([down[1], -down[0]])
    return np.stack([points @ right, points @ down], axis=1) / face_height(landmarks)
