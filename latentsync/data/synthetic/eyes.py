"""Eyes that look and blink, drawn over the shut lids of the portrait."""

from __future__ import annotations

import numpy as np

from latentsync.data.synthetic.canvas import Canvas, rgb, smoothstep
from latentsync.data.synthetic.identity import Identity

_SCLERA = rgb((0.82, 0.79, 0.77))
_CARUNCLE = rgb((0.75, 0.47, 0.44))
_IRIS_RADIUS = 0.092  # face units
_PUPIL_RADIUS = 0.038


class Eye:
    """One eye of a head; `side` is -1 for the image's left."""

    def __init__(self, identity: Identity, canvas: Canvas, side: int) -> None:
        centre = canvas.pixels(np.array((side * identity.eye_distance, 0.0)))
        reach = np.array((1.25 * identity.eye_width, 0.17)) * canvas.scale
        x0, y0 = np.floor(centre - reach).astype(int)
        x1, y1 = np.ceil(centre + reach).astype(int)
        self._span = (slice(y0, y1), slice(x0, x1))
        self._scale, self._side = canvas.scale, side
        self._x = canvas.x[self._span] - np.float32(side * identity.eye_distance)
        self._t = self._x * side / identity.eye_width
        self._y = canvas.y[self._span] + identity.eye_tilt * self._t
        profile = np.maximum(1 - np.abs(self._t) ** 2.2, 0)
        self._open = -identity.eye_height * profile ** (0.72)
        self._low = 0.42 * identity.eye_height * np.maximum(1 - self._t**2, 0)
        self._identity = identity
        angle = np.arctan2(self._y, self._x)
        self._fibres = 0.82 + 0.1 * np.sin(23 * angle + identity.seed) + 0.08 * np.sin(41 * angle)

    def draw(self, head: np.ndarray, blink: float, gaze: tuple[float, float], lids: float) -> None:
        """Paint into `head` (h, w, 4)."""
        opened, low = self._open * (1 + 0.35 * lids), self._low * (1 + 0.5 * min(lids, 0.0))
        high = opened + (low - opened) * 0.98 * blink
        y, t = self._y, self._t
        inside = np.clip((y - high) * self._scale + 0.5, 0, 1) * np.clip((low - y) * self._scale + 0.5, 0, 1)
        inside = inside * (np.abs(t) < 1)
        patch = head[self._span]
        ball = self._ball(gaze) * (1 - 0.45 * np.exp(-np.maximum(y - high, 0) / 0.028))[..., None]
        patch[..., :3] += (ball - patch[..., :3]) * inside[..., None]
        lash = 0.85 * np.exp(-np.square((y - high + 0.004) / 0.013)) * smoothstep(1.12, 0.95, np.abs(t - 0.06))
        lash = np.maximum(lash, 0.25 * np.exp(-np.square((y - low) / 0.009)) * smoothstep(1.0, 0.8, np.abs(t)))
        ink = rgb(self._identity.hair) * 0.35
        patch[..., :3] += (ink - patch[..., :3]) * lash[..., None]

    def _ball(self, gaze: tuple[float, float]) -> np.ndarray:
        """Eyeball (h, w, 3) without lids."""
        width = self._identity.eye_width
        x = self._x - gaze[0] * width
        y = self._y - gaze[1] * width + 0.012
        radius = np.hypot(x, y)
        edge = 1.2 / self._scale
        color = _SCLERA * (1 - 0.3 * self._t**2)[..., None]
        corner = smoothstep(-0.78, -0.95, self._t)
        color = color + (_CARUNCLE - color) * corner[..., None]
        iris = rgb(self._identity.iris) * (self._fibres * (0.75 + 0.9 * radius / _IRIS_RADIUS))[..., None]
        iris = iris * (1 - 0.6 * smoothstep(0.78, 1.0, radius / _IRIS_RADIUS))[..., None]
        color = color + (iris - color) * smoothstep(_IRIS_RADIUS + edge, _IRIS_RADIUS - edge, radius)[..., None]
        pupil = smoothstep(_PUPIL_RADIUS + edge, _PUPIL_RADIUS - edge, radius)
        color = color * (1 - 0.93 * pupil)[..., None]
        sun = self._identity.light
        glint = np.exp(-0.5 * (np.square(x - 0.035 * np.sign(sun[0])) + np.square(y + 0.035)) / 0.014**2)
        return color + (0.85 * glint * (radius < _IRIS_RADIUS * 1.2))[..., None]
