"""What shows between open lips: the dark cavity, two rows of teeth, the tongue."""

from __future__ import annotations

import numpy as np

from latentsync.data.synthetic import mouth
from latentsync.data.synthetic.canvas import rgb, smoothstep
from latentsync.data.synthetic.identity import Identity
from latentsync.data.synthetic.mouth import MouthShape, MouthState

_CAVITY = rgb((0.17, 0.055, 0.055))
_TONGUE = rgb((0.66, 0.34, 0.34))
_GUM_SHADE = rgb((1.0, 0.93, 0.9))
_RELATIVE_TEETH = (1.0, 0.78, 0.82, 0.66, 0.6, 0.5)  # widths as seen from the front, from the middle outwards
_EDGE = 0.035  # how far the upper incisors reach below the resting lip line


class InnerMouth:
    """x (1, w) and y (h, 1) in face units are the pixels of the region that is drawn, `scale` pixels per unit."""

    def __init__(self, identity: Identity, x: np.ndarray, y: np.ndarray, scale: float) -> None:
        self.identity, self.x, self.y, self.scale = identity, x, y, scale
        self._upper_row = self._row(identity.teeth_size)
        self._lower_row = self._row(0.72 * identity.teeth_size)
        self._arch = 0.055 * np.square(x / 0.3)

    def _row(self, size: float) -> tuple[np.ndarray, np.ndarray]:
        """Brightness and raggedness (1, w) of a row of teeth."""
        borders = np.cumsum((0.0, *_RELATIVE_TEETH)) * size
        distance = np.abs(np.abs(self.x)[..., None] - borders).min(axis=-1)
        gap = np.exp(-0.5 * np.square(distance / max(0.007, 0.7 / self.scale)))
        round_off = 1 - 0.7 * np.square(np.minimum(self.x / 0.36, 1.1))
        return (1 - 0.4 * gap) * np.maximum(round_off, 0.05), 0.012 * np.exp(-distance / 0.012)

    def draw(self, shape: MouthShape, state: MouthState) -> tuple[np.ndarray, np.ndarray]:
        """Colour (h, w, 3) and coverage (h, w) of the opening between the lips."""
        x, y = self.x, self.y
        t = x / shape.half_width
        above, below = mouth.inner_offsets(shape, t)
        line = mouth.lip_line(self.identity, t)
        top, bottom = line + above, line + below
        lips = self._step(top - y) + self._step(y - bottom)
        color = np.broadcast_to(_CAVITY, (*lips.shape, 3)) * (0.6 + 0.9 * smoothstep(0.12, 0.0, bottom - y))[..., None]
        color = self._tongue(color, shape, state, bottom)
        color = self._teeth(color, shape, state, bottom)
        shadow = 0.3 + 0.7 * smoothstep(-0.02, 0.09, y - top)
        shadow = shadow * (1 - 0.65 * np.minimum(t**4, 1)) * (0.75 + 0.25 * smoothstep(0.0, 0.04, bottom - y))
        return color * shadow[..., None], np.clip(1 - lips, 0, 1) * (np.abs(t) < 1)

    def _step(self, distance: np.ndarray) -> np.ndarray:
        """Anti-aliased edge: 1 where `distance` (face units) is positive."""
        return np.clip(distance * self.scale + 0.5, 0, 1)

    def _tongue(self, color: np.ndarray, shape: MouthShape, state: MouthState, bottom: np.ndarray) -> np.ndarray:
        x, y = self.x, self.y
        floor = self.identity.mouth_y + shape.jaw
        crest = (
            floor - (0.28 + 0.62 * state.tongue) * shape.gap + (0.3 - 0.2 * state.tongue) * shape.gap * (x / 0.2) ** 2
        )
        cover = smoothstep(-0.015, 0.02, y - crest) * smoothstep(0.27, 0.22, np.abs(x))
        shade = (
            0.62 + 0.45 * smoothstep(0.0, 0.1, y - crest) - 0.12 * np.exp(-np.square(x / 0.02)) * (state.tongue < 0.6)
        )
        return color + (_TONGUE * shade[..., None] - color) * cover[..., None]

    def _teeth(self, color: np.ndarray, shape: MouthShape, state: MouthState, bottom: np.ndarray) -> np.ndarray:
        ivory = rgb(self.identity.teeth)
        bright, ragged = self._lower_row
        shown = 0.045 * float(smoothstep(0.03, 0.15, shape.gap)) + 0.75 * state.teeth * shape.jaw
        low = self.identity.mouth_y + shape.jaw + 0.01 - shown + 0.6 * self._arch + ragged
        cover = self._step(self.y - low) * (1 - smoothstep(0.24, 0.3, np.abs(self.x)))
        color = color + (ivory * 0.84 * bright[..., None] - color) * cover[..., None]
        bright, ragged = self._upper_row
        edge = self.identity.mouth_y + _EDGE - 0.06 * state.rounding - self._arch - ragged
        cover = self._step(edge - self.y) * (1 - smoothstep(0.34, 0.4, np.abs(self.x)))
        lit = bright * (0.8 + 0.2 * smoothstep(0.11, 0.02, edge - self.y))
        return color + (ivory * _GUM_SHADE * lit[..., None] - color) * cover[..., None]
