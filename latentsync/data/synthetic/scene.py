"""A head in front of a camera: pose, shoulders, room and the camera's noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentsync.data.synthetic import portrait as still
from latentsync.data.synthetic.emotion import Emotion
from latentsync.data.synthetic.face import FacePainter, FaceState
from latentsync.data.synthetic.identity import Identity

_TEXTURE_SCALE = 1.35  # head's pixels per picture pixel, so that the second resampling costs no sharpness
_GRID = 8  # pixels between the knots of the pose's field
_REACH_MARGIN = 3.0  # px; the pose's field is exact at its knots only
_CAMERA_DISTANCE = 9.0  # face units
_PIVOT = (0.9, -0.5)  # y and z about which the head turns
_POSES = 5  # of the waves of `Ambient` belong to the head, the first ones
MOST_MOTION = 2.0  # times the usual; further the drawn head turns in ways that a flat portrait cannot show
_FURTHEST_GAZE = 0.5  # share of the eye's half width
_BLINK_CELL = 3.1  # seconds; one blink in each
_BLINK = (0.09, 0.05, 0.16)  # seconds to shut, shut, to open


@dataclass(frozen=True)
class Pose:
    """Ambient motion of one moment; nothing here depends on what is said."""

    x: float  # face units
    y: float
    roll: float  # radians
    yaw: float
    pitch: float
    blink: float
    brow: float
    gaze: tuple[float, float]
    smile: float
    gain: float  # brightness
    frown: float
    lids: float


class Ambient:
    """Everything that moves besides speech, as a function of time, a seed, an emotion and the amount of motion.

    Without an emotion the seed draws a mood, between a little sullen and a smile.
    """

    _AMPLITUDE = (0.06, 0.035, 0.045, 0.10, 0.06, 0.35, 0.2, 0.06, 0.25, 0.008)

    def __init__(self, seed: int, emotion: Emotion | None = None, motion: float = 1.0) -> None:
        rng = np.random.default_rng([0xA3B1, seed])
        shape = (len(self._AMPLITUDE), 4)
        self._seed = seed
        self._rate = 2 * np.pi * rng.uniform(0.05, 0.55, shape)
        self._phase = rng.uniform(0, 2 * np.pi, shape)
        weight = rng.uniform(0.3, 1.0, shape) / np.sqrt(self._rate)
        self._weight = weight / np.linalg.norm(weight, axis=1, keepdims=True) * np.array(self._AMPLITUDE)[:, None]
        self._weight[:_POSES] *= motion
        mood = float(rng.uniform(-0.3, 0.6))
        self._emotion = emotion or Emotion(smile=mood, brow=0.0, frown=0.0, lids=0.0)

    def at(self, time: float) -> Pose:
        """Pose at `time` seconds."""
        values = np.sum(self._weight * np.sin(self._rate * time + self._phase), axis=1)
        x, y, roll, yaw, pitch, brow, gaze_x, gaze_y, smile, gain = (float(v) for v in values)
        side = min(max(0.6 * gaze_x - 1.2 * yaw, -_FURTHEST_GAZE), _FURTHEST_GAZE)  # the eyes stay on the camera
        mood = self._emotion
        return Pose(
            x,
            y,
            roll,
            yaw,
            pitch,
            self._blink(time),
            mood.brow + brow,
            (side, gaze_y),
            mood.smile + smile,
            1 + gain,
            mood.frown,
            mood.lids,
        )

    def _blink(self, time: float) -> float:
        cell = int(time // _BLINK_CELL)
        start = cell * _BLINK_CELL + np.random.default_rng([0xB117, self._seed, cell]).uniform(
            0, _BLINK_CELL - sum(_BLINK)
        )
        return float(np.interp(time - start, np.cumsum((0.0, *_BLINK)), (0.0, 1.0, 1.0, 0.0)))


class Scene:
    """One person framed by a camera of `width` x `height` pixels."""

    def __init__(self, identity: Identity, width: int, height: int) -> None:
        self.identity = identity
        self.width, self.height = width, height
        self.scale = identity.zoom * min(width, height)
        self._centre = np.array((width / 2, 0.44 * height)) - 0.5
        self._portrait = still.paint(identity, _TEXTURE_SCALE * self.scale, self.scale)
        self._painter = FacePainter(identity, self._portrait)
        self._backdrop = still.backdrop(identity, width, height)
        self._depth = _smooth_depth(self._portrait)
        columns, rows = -(-width // _GRID), -(-height // _GRID)
        self._grid = np.meshgrid((np.arange(columns) + 0.5) * _GRID - 0.5, (np.arange(rows) + 0.5) * _GRID - 0.5)

    def draw(self, state: FaceState, pose: Pose) -> np.ndarray:
        """Picture (height, width, 3) float32, 0 .. 1, without the camera's noise."""
        map_x, map_y = self._inverse(pose)
        picture = self._backdrop.copy()
        if self._portrait.back is not None:
            _blend(picture, self._warp(self._portrait.back, map_x, map_y))
        _blend(picture, self._body(pose))
        _blend(picture, self._warp(self._painter.draw(state), map_x, map_y))
        picture *= pose.gain
        return picture

    def project(self, points: np.ndarray, pose: Pose) -> np.ndarray:
        """Face units (n, 2), on the surface of the head, to picture pixels (n, 2); 0, 0 is the first pixel's centre."""
        x, y = points[:, 0], points[:, 1]
        z = self._depth_at(x, y)
        u, v, near = _turn(x, y, z, pose)
        return self._place(u * near, v * near, pose)

    def reach(self, pose: Pose, margin: float = 0.0) -> np.ndarray:
        """(n, 2) px: outline of all that speech can move, `margin` px wider."""
        outline = self.project(self._painter.reach(), pose)
        return outline + (_REACH_MARGIN + margin) * np.sign(outline - outline.mean(axis=0))

    def _place(self, u: np.ndarray, v: np.ndarray, pose: Pose) -> np.ndarray:
        cos, sin = np.cos(pose.roll), np.sin(pose.roll)
        v = v - _PIVOT[0]
        rolled = np.stack([cos * u - sin * v + pose.x, sin * u + cos * v + _PIVOT[0] + pose.y], axis=-1)
        return rolled * self.scale + self._centre

    def _inverse(self, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Where each picture pixel lies on the head's canvas, in canvas pixels: two (height, width) float32."""
        import cv2

        u = (self._grid[0] - self._centre[0]) / self.scale - pose.x
        v = (self._grid[1] - self._centre[1]) / self.scale - pose.y - _PIVOT[0]
        cos, sin = np.cos(pose.roll), np.sin(pose.roll)
        u, v = cos * u + sin * v, cos * v - sin * u + _PIVOT[0]
        x, y = u, v
        for _ in range(5):  # fixed point: the parallax is small and smooth
            u_now, v_now, near = _turn(x, y, self._depth_at(x, y), pose)
            x, y = x + u - u_now * near, y + v - v_now * near
        canvas = self._portrait.canvas
        maps = canvas.pixels(np.stack([x, y], axis=-1)).astype(np.float32)
        size = (self._grid[0].shape[1] * _GRID, self._grid[0].shape[0] * _GRID)
        large = cv2.resize(maps, size, interpolation=cv2.INTER_LINEAR)[: self.height, : self.width]
        return np.ascontiguousarray(large[..., 0]), np.ascontiguousarray(large[..., 1])

    def _depth_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        import cv2

        canvas = self._portrait.canvas
        step = canvas.shape[1] / self._depth.shape[1] / canvas.scale
        columns = np.atleast_2d((x - canvas.left) / step - 0.5).astype(np.float32)
        rows = np.atleast_2d((y - canvas.top) / step - 0.5).astype(np.float32)
        depth = cv2.remap(self._depth, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return depth.reshape(np.shape(x)).astype(np.float64)

    def _warp(self, image: np.ndarray, map_x: np.ndarray, map_y: np.ndarray) -> np.ndarray:
        import cv2

        return cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def _body(self, pose: Pose) -> np.ndarray:
        """Neck and shoulders (height, width, 4): they follow a part of the head's way."""
        import cv2

        canvas = self._portrait.body_canvas
        shift = self._centre + np.array((0.55 * pose.x, 0.6 * pose.y)) * self.scale
        left, top = shift + (np.array((canvas.left, canvas.top)) * self.scale + 0.5)
        move = np.array(((1.0, 0.0, left), (0.0, 1.0, top)))
        return cv2.warpAffine(self._portrait.body, move, (self.width, self.height), flags=cv2.INTER_LINEAR)


def _turn(x: np.ndarray, y: np.ndarray, z: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Yaw and pitch about the pivot; -> x, y and the factor of perspective."""
    y, z = y - _PIVOT[0], z - _PIVOT[1]
    x, z = x * np.cos(pose.yaw) + z * np.sin(pose.yaw), z * np.cos(pose.yaw) - x * np.sin(pose.yaw)
    y, z = y * np.cos(pose.pitch) + z * np.sin(pose.pitch), z * np.cos(pose.pitch) - y * np.sin(pose.pitch)
    rest = 0.85 - _PIVOT[1]  # things at the depth of the face keep their size
    return x, y + _PIVOT[0], 1 / (1 - (z - rest) / _CAMERA_DISTANCE)


def _blend(picture: np.ndarray, above: np.ndarray) -> None:
    picture *= 1 - above[..., 3:]
    picture += above[..., :3]


def _smooth_depth(portrait: still.Portrait) -> np.ndarray:
    """The head's relief, coarse: parallax must not tear."""
    import cv2

    height, width = portrait.depth.shape
    blurred = cv2.GaussianBlur(portrait.depth, (0, 0), 0.1 * portrait.canvas.scale)
    return cv2.resize(blurred, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
