"""Stage 7: how good the pictures of a clip are, without anything to compare them with.

A measure of our own make from two simple ones: sharpness (the blur effect of Crete et al. 2007: what a second blur
takes away is what was sharp) times exposure (share of pixels that are neither black nor burnt out). It looks at the
aligned crop, so a face that was enlarged to its size counts as blurred. Noise counts as sharp; it tells nothing of
light from one side, make-up or watermarks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

JUDGED = 8  # pictures of a clip, evenly spread
BLUR_WIDTH = 9  # px of the second blur (Crete et al., equation 1)
DARKEST, BRIGHTEST = 8, 247  # grey levels of pixels that hold detail
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def quality(crops: np.ndarray) -> dict[str, Any]:
    """crops: (f, r, r, 3) uint8 -> {quality, sharpness, exposure}, each in [0, 1], means over JUDGED of them."""
    chosen = np.linspace(0, len(crops) - 1, min(JUDGED, len(crops))).astype(int)
    greys = [crops[index] @ LUMA for index in chosen]
    sharp = np.array([sharpness(grey) for grey in greys])
    exposed = np.array([exposure(grey) for grey in greys])
    means = {"quality": sharp * exposed, "sharpness": sharp, "exposure": exposed}
    return {name: round(float(values.mean()), 4) for name, values in means.items()}


def sharpness(grey: np.ndarray) -> float:
    """grey: (h, w) levels -> 1 sharp .. 0 all blur: 1 less the blur effect (Crete et al. 2007, equation 9)."""
    from scipy.ndimage import uniform_filter1d

    kept = []
    for axis in (0, 1):
        detail = np.abs(np.diff(grey, axis=axis))
        left = np.abs(np.diff(uniform_filter1d(grey, BLUR_WIDTH, axis=axis), axis=axis))
        total = detail.sum()
        kept.append(1.0 - np.maximum(0, detail - left).sum() / total if total > 0 else 1.0)
    return float(1.0 - max(kept))


def exposure(grey: np.ndarray) -> float:
    """grey: (h, w) levels 0..255 -> share of the pixels that are neither nearly black nor nearly white."""
    return float(((grey > DARKEST) & (grey < BRIGHTEST)).mean())
