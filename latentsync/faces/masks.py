"""Which pixels of the square crop are made anew: the lower face, with a notch that spares the nose."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .lips import CHIN, NOSE_BASE, OUTER_LIP

MASK_RESOLUTION = 256  # px, the square crop that VERTICES are given in
VERTICES = (
    *((9, 95), (9, 135), (10, 136), (11, 163), (12, 164), (12, 170), (22, 188), (34, 202), (49, 215), (60, 222)),
    *((82, 233), (95, 238), (103, 239), (108, 241), (152, 242), (164, 239), (176, 233), (183, 231), (202, 220)),
    *((210, 214), (223, 201), (240, 177), (244, 169), (246, 135), (247, 134), (247, 128), (246, 127), (246, 95)),
    *((178, 95), (178, 127), (177, 128), (78, 128), (77, 127), (77, 95)),
)

FACE_MARGIN = 1 / 20  # of the crop's size: around the face, where its outline may come to lie
JAW_DROP = 1 / 12  # of the crop's size: how much lower than in the source a chin may come to lie
MOUTH_REACH = 1 / 4  # of the crop's size: from the middle of the lips to either side; the lips reach half as far


@lru_cache(maxsize=8)
def inpaint_mask(resolution: int) -> np.ndarray:
    """(resolution, resolution) float32, 1 = regenerate, 0 = keep: the published mask at any size. Read-only."""
    import cv2

    mask = np.zeros((MASK_RESOLUTION, MASK_RESOLUTION), np.float32)
    cv2.fillPoly(mask, [np.array(VERTICES, np.int32)], (1.0,))
    shrinks = resolution < MASK_RESOLUTION
    resized = cv2.resize(mask, (resolution,) * 2, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    binary = (resized >= 0.5).astype(np.float32)
    binary.setflags(write=False)
    return binary


def face_region(points: np.ndarray, resolution: int) -> np.ndarray:
    """(resolution, resolution) float32, 1 over the face and wherever another mouth may move its outline, 0 beside it.

    points: (n, 2) landmarks in px of the crop
    """
    import cv2

    hull = cv2.convexHull(np.round(points).astype(np.int32))
    region = np.zeros((resolution, resolution), np.float32)
    for drop in (0, round(JAW_DROP * resolution)):
        cv2.fillConvexPoly(region, hull + np.array([[0, drop]], np.int32), (1.0,))
    reach = round(FACE_MARGIN * resolution)
    return cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2))


def mouth_region(points: np.ndarray, resolution: int) -> np.ndarray:
    """(resolution, resolution) float32, 1 on an oval from the nose to below the chin, 0 on cheeks and jaw corners.

    points: (478, 2) landmarks in px of the crop
    """
    import cv2

    middle = points[list(OUTER_LIP), 0].mean()
    top, bottom = points[NOSE_BASE, 1], points[CHIN, 1] + JAW_DROP * resolution
    centre, axes = (middle, (top + bottom) / 2), (MOUTH_REACH * resolution, (bottom - top) / 2)
    oval = np.zeros((resolution, resolution), np.float32)
    cv2.ellipse(oval, [round(c) for c in centre], [max(1, round(a)) for a in axes], 0, 0, 360, (1.0,), cv2.FILLED)
    return np.minimum(oval, face_region(points, resolution))


REGIONS = {"face": face_region, "mouth": mouth_region}  # what is shown of a crop


def feathered(mask: np.ndarray, width: float) -> np.ndarray:
    """(h, w) float32 in [0, 1]: 0 outside `mask` (h, w) and at its edge, rising smoothly to 1 `width` px inside."""
    import cv2

    inside = cv2.copyMakeBorder((mask >= 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    ramp = np.clip((depth - 1) / width, 0.0, 1.0)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
