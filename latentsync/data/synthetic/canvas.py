"""Brushes of the portrait painter: float images on a grid of face units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SUPERSAMPLING = 2  # still layers are painted so much larger and averaged down


@dataclass(frozen=True)
class Canvas:
    """A rectangle of the face plane and its pixels; `x` and `y` are (h, w) float32 pixel centres in face units."""

    left: float
    top: float
    scale: float  # pixels per face unit
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def over(cls, left: float, top: float, right: float, bottom: float, scale: float) -> Canvas:
        width, height = round((right - left) * scale), round((bottom - top) * scale)
        x = left + (np.arange(width, dtype=np.float32) + 0.5) / np.float32(scale)
        y = top + (np.arange(height, dtype=np.float32) + 0.5) / np.float32(scale)
        return cls(left, top, scale, *np.meshgrid(x, y))

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.x.shape
        return height, width

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Face units (..., 2) to pixel coordinates whose whole numbers are pixel centres."""
        return (np.asarray(points) - (self.left, self.top)) * self.scale - 0.5

    def finer(self) -> Canvas:
        """The same rectangle with SUPERSAMPLING times the pixels."""
        height, width = self.shape
        scale = self.scale * SUPERSAMPLING
        x = self.left + (np.arange(width * SUPERSAMPLING, dtype=np.float32) + 0.5) / np.float32(scale)
        y = self.top + (np.arange(height * SUPERSAMPLING, dtype=np.float32) + 0.5) / np.float32(scale)
        return Canvas(self.left, self.top, scale, *np.meshgrid(x, y))


def smoothstep(lo: float, hi: float, value: Any) -> np.ndarray:
    """0 where `value` (a number or any array) is below `lo`, 1 above `hi`, smooth between; falls where lo > hi."""
    t = np.clip((value - lo) / (hi - lo), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def rgb(color: tuple[float, float, float]) -> np.ndarray:
    """A colour as (3,) float32, so that float32 pictures stay float32."""
    return np.asarray(color, np.float32)


def blob(canvas: Canvas, x: float, y: float, width: float, height: float) -> np.ndarray:
    """Gaussian hill (h, w) of height 1 with the given standard deviations."""
    return np.exp(-0.5 * (np.square((canvas.x - x) / width) + np.square((canvas.y - y) / height)))


def pair(canvas: Canvas, x: float, y: float, width: float, height: float) -> np.ndarray:
    """Two `blob`s, mirrored at x = 0."""
    return np.exp(-0.5 * (np.square((np.abs(canvas.x) - x) / width) + np.square((canvas.y - y) / height)))


def noise(canvas: Canvas, rng: np.random.Generator, grain: float, stretch: float = 1.0) -> np.ndarray:
    """Smooth noise (h, w) of unit deviation, grains `grain` face units wide and `stretch` times as high."""
    import cv2

    height, width = canvas.shape
    cells = (max(2, round(height / canvas.scale / grain / stretch)), max(2, round(width / canvas.scale / grain)))
    coarse = rng.standard_normal(cells).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return image / max(float(image.std()), 1e-6)


def strokes(canvas: Canvas, lines: list[np.ndarray], width: float) -> np.ndarray:
    """Coverage (h, w) 0 .. 1 of thin anti-aliased polylines, each (n, 2) face units, `width` face units thick."""
    import cv2

    sub = 4  # fractional bits of OpenCV's fixed-point coordinates
    image = np.zeros(canvas.shape, np.uint8)
    points = [np.round(canvas.pixels(line) * 2**sub).astype(np.int32) for line in lines]
    thickness = max(1, round(width * canvas.scale))
    level = int(255 * min(1.0, width * canvas.scale / thickness))
    for line in points:
        cv2.polylines(image, [line], False, (level,), thickness, cv2.LINE_AA, sub)
    return image.astype(np.float32) / 255


def over(below: np.ndarray, color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay `color` (h, w, 3) or (3,) with `alpha` (h, w) on `below` (h, w, 3)."""
    return below + (np.asarray(color, np.float32) - below) * alpha[..., None]


def layer(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(h, w, 4) premultiplied."""
    return np.dstack([color * alpha[..., None], alpha]).astype(np.float32)


def shrink(image: np.ndarray) -> np.ndarray:
    """Undo `Canvas.finer` by averaging."""
    import cv2

    size = (image.shape[1] // SUPERSAMPLING, image.shape[0] // SUPERSAMPLING)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
