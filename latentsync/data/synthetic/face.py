"""The moving parts of a drawn head: jaw, lips, what is seen between them, eyes and brows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentsync.data.synthetic import eyes, mouth
from latentsync.data.synthetic.canvas import Canvas
from latentsync.data.synthetic.identity import Identity
from latentsync.data.synthetic.inner_mouth import InnerMouth
from latentsync.data.synthetic.mouth import MouthShape, MouthState
from latentsync.data.synthetic.portrait import Portrait

_COARSE = 4  # pixels between the knots of a displacement field
_REACH_POINTS = 8  # a side
_ROUNDS = 6  # of the fixed-point iteration that inverts a displacement; its slope stays below 0.5


@dataclass(frozen=True)
class FaceState:
    """Everything about a face that moves with respect to the head."""

    mouth: MouthState
    blink: float  # 0 eyes open .. 1 shut
    brow: float  # -1 down .. 1 up
    gaze: tuple[float, float]  # of the pupils, share of the eye's half width
    frown: float = 0.0  # inner ends of the brows: -1 up .. 1 down
    lids: float = 0.0  # -1 narrowed .. 1 wide


class Region:
    """A part of the head's canvas whose sides are whole numbers of coarse cells."""

    def __init__(self, canvas: Canvas, left: float, top: float, right: float, bottom: float) -> None:
        x0, y0 = np.floor(canvas.pixels(np.array((left, top)))).astype(int).clip(0)
        height, width = canvas.shape
        columns = min(int((right - left) * canvas.scale), width - x0) // _COARSE
        rows = min(int((bottom - top) * canvas.scale), height - y0) // _COARSE
        self.canvas = canvas
        self.span = (slice(y0, y0 + rows * _COARSE), slice(x0, x0 + columns * _COARSE))
        self.x, self.y = canvas.x[self.span], canvas.y[self.span]
        step = _COARSE / canvas.scale
        self.coarse_x, self.coarse_y = np.meshgrid(
            self.x[0, 0] - 0.5 / canvas.scale + (np.arange(columns) + 0.5) * step,
            self.y[0, 0] - 0.5 / canvas.scale + (np.arange(rows) + 0.5) * step,
        )

    def fine(self, field: np.ndarray) -> np.ndarray:
        """A coarse field at every pixel (h, w) float32."""
        import cv2

        height, width = self.x.shape
        return cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)

    def sample(self, image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """`image` of the whole canvas at face units x, y (h, w)."""
        import cv2

        canvas = self.canvas
        columns = ((x - canvas.left) * canvas.scale - 0.5).astype(np.float32)
        rows = ((y - canvas.top) * canvas.scale - 0.5).astype(np.float32)
        return cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


class FacePainter:
    """Draws one person's head in any state; everything that stands still is painted once."""

    def __init__(self, identity: Identity, portrait: Portrait) -> None:
        self.identity, self.portrait = identity, portrait
        canvas = portrait.canvas
        mouth_y = identity.mouth_y
        self._lower = Region(canvas, -1.05, mouth_y - 0.5, 1.05, identity.chin + 0.42)
        self._brows = Region(canvas, -0.95, identity.brow_height - 0.3, 0.95, -0.1)
        inner = Region(canvas, -0.5, mouth_y - 0.16, 0.5, mouth_y + 0.48)
        self._inner_span = inner.span
        self._inner = InnerMouth(identity, inner.x[:1], inner.y[:, :1], canvas.scale)
        self._eyes = [eyes.Eye(identity, canvas, side) for side in (-1, 1)]

    def draw(self, state: FaceState) -> np.ndarray:
        """The head (h, w, 4), premultiplied float32, on the portrait's canvas."""
        head = self.portrait.head.copy()
        self._draw_brows(head, state.brow, state.frown)
        for eye in self._eyes:
            eye.draw(head, state.blink, state.gaze, state.lids)
        shape = mouth.shape(self.identity, state.mouth)
        head[self._lower.span] = self._jaw_and_lips(shape)
        patch = head[self._inner_span]
        color, cover = self._inner.draw(shape, state.mouth)
        patch[..., :3] += (color - patch[..., :3]) * cover[..., None]
        return head

    def reach(self) -> np.ndarray:
        """(n, 2) face units: outline of the part of the head that speech can move."""
        region = self._lower
        (left, right), (top, bottom) = region.x[0, [0, -1]], region.y[[0, -1], 0]
        corners = np.array(((left, top), (right, top), (right, bottom), (left, bottom)), np.float64)
        along = np.linspace(0, 1, _REACH_POINTS, endpoint=False)[:, None]
        sides = zip(corners, np.roll(corners, -1, axis=0), strict=True)
        return np.concatenate([start + along * (end - start) for start, end in sides])

    def _draw_brows(self, head: np.ndarray, lift: float, frown: float) -> None:
        region = self._brows
        x, y = region.coarse_x, region.coarse_y
        edge = np.square(x / 0.95) + np.square((y - self.identity.brow_height) / 0.28)
        inner = 1.6 * np.exp(-np.square((np.abs(x) - 0.15) / 0.25))
        moved = y + 0.05 * (lift - frown * inner) * np.maximum(1 - edge, 0) ** 1.5
        head[region.span] = region.sample(self.portrait.head, region.x, region.fine(moved))

    def _jaw_and_lips(self, shape: MouthShape) -> np.ndarray:
        """The lower face with lips apart; what shows between them is left to the inner mouth."""
        region, identity = self._lower, self.identity
        rest_x = mouth.widening(identity, shape, region.coarse_x, region.coarse_y)
        upper, lower = (self._rest_y(shape, rest_x, is_upper) for is_upper in (True, False))
        fine_x = region.fine(rest_x)
        t = region.x[:1] / shape.half_width
        line, (above, below) = mouth.lip_line(identity, t), mouth.inner_offsets(shape, t)
        middle = line + 0.5 * (above + below)
        half_pixel = 0.5 / region.canvas.scale
        on_lips = np.abs(t) < 1
        high = np.where(on_lips, np.minimum(upper, line - half_pixel), upper)
        low = np.where(on_lips, np.maximum(lower, line + half_pixel), lower)
        skin = region.sample(self.portrait.head, fine_x, np.where(region.y < middle, high, low))
        seam = 0.5 * np.exp(-np.square((region.y - line - above) / 0.013))
        seam += 0.35 * np.exp(-np.square((region.y - line - below) / 0.016))
        skin[..., :3] *= (1 - np.minimum(seam, 0.75) * np.maximum(1 - t * t, 0) ** 0.3)[..., None]
        return skin

    def _rest_y(self, shape: MouthShape, rest_x: np.ndarray, upper: bool) -> np.ndarray:
        region = self._lower
        rest_y = region.coarse_y
        for _ in range(_ROUNDS):
            rest_y = region.coarse_y - mouth.displacement(self.identity, shape, rest_x, rest_y, upper)
        return region.fine(rest_y)
