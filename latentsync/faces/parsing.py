"""A parsing map drawn from the landmarks, for where no segmentation network is: it says nothing that they do not."""

from __future__ import annotations

import numpy as np

from latentsync.faces.alignment import LEFT_BROW, RIGHT_BROW
from latentsync.faces.lips import INNER_LIP, OUTER_LIP

REGIONS = ("background", "skin", "nose", "brows", "eyes", "lips", "inner mouth")
# Outlines in MediaPipe's canonical face mesh, in order.
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
NOSE = (168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 48, 278, 64, 294, 129, 358, 49, 279)
# Region by its number in REGIONS, drawn in this order; False: the hull of points that are no outline.
OUTLINES = (
    (1, FACE_OVAL, True), (2, NOSE, False), (3, LEFT_BROW, False), (3, RIGHT_BROW, False), (4, LEFT_EYE, True),
    (4, RIGHT_EYE, True), (5, OUTER_LIP, True), (6, INNER_LIP, True),
)  # fmt: skip
FRACTION_BITS = 6  # of a pixel, in the coordinates that OpenCV draws


def draw_regions(shares: np.ndarray, size: int) -> np.ndarray:
    """The region of each pixel of an aligned crop: (size, size) uint8, numbers of REGIONS.

    shares: (478, 2) landmarks as shares of the crop's sides, see `alignment.crop_landmarks`; nan: all background
    """
    import cv2

    drawn = np.zeros((size, size), np.uint8)
    if np.isnan(shares[0, 0]):
        return drawn
    pixels = np.round((shares * size - 0.5) * (1 << FRACTION_BITS)).astype(np.int32)
    for region, points, ordered in OUTLINES:
        outline = pixels[list(points)]
        cv2.fillPoly(drawn, [outline if ordered else cv2.convexHull(outline)], (region,), shift=FRACTION_BITS)
    return drawn
