"""The camera before a drawn head: how sharp it sees and how much it grains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """What a camera adds to the picture; its grain is a function of the motion seed and the frame's number."""

    grain: float | None = None  # standard deviation in grey levels; None: what belongs to the identity
    blur: float = 0.0  # standard deviation in px of a lens out of focus


class Exposure:
    """One take with a camera: float pictures in, frames out. Grain is a window moving at random over one large tile."""

    _MARGIN = 61

    def __init__(self, camera: Camera, usual_grain: float, size: tuple[int, int], seed: int) -> None:
        """usual_grain: for a camera without one of its own; size: (height, width) px."""
        rng = np.random.default_rng([0x6041, seed])
        grain = usual_grain if camera.grain is None else camera.grain
        shape = (size[0] + self._MARGIN, size[1] + self._MARGIN, 3)
        self._tile = rng.standard_normal(shape, np.float32) * np.float32(grain / 255)
        self._seed, self._size, self._blur = seed, size, camera.blur

    def expose(self, picture: np.ndarray, index: int) -> np.ndarray:
        """(h, w, 3) float32 0 .. 1, used up -> uint8; `index` is the frame's number."""
        import cv2

        if self._blur > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), self._blur)
        top, left = np.random.default_rng([0x6042, self._seed, index]).integers(0, self._MARGIN + 1, 2)
        height, width = self._size
        picture += self._tile[top : top + height, left : left + width]
        return cv2.convertScaleAbs(np.maximum(picture, 0, out=picture), alpha=255)
