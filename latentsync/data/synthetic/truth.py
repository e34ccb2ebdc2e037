"""What a take shows, exactly: the mouth in numbers and in pixels, the sound being said, the pose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from latentsync.data.synthetic import mouth
from latentsync.data.synthetic.face import FaceState
from latentsync.data.synthetic.scene import Pose, Scene
from latentsync.data.synthetic.speech import Articulation

_FOREHEAD = -1.12  # y of the top of the face as the face mesh sees it, face units
_BLUR_REACH = 4  # standard deviations at which OpenCV cuts a Gaussian off, of pictures that are not uint8
_DIGITS, _PIXEL_DIGITS = 5, 2  # behind the point, of numbers that are written
_IN_PIXELS = {"lips", "reach"}


@dataclass(frozen=True)
class Truth:
    """Every track has one row a frame; `Articulation`, `Pose` and `Emotion` say what the numbers mean."""

    times: np.ndarray  # (f,) seconds
    opening: np.ndarray  # (f,) 0 lips closed .. 1 wide open
    width: np.ndarray  # (f,) -1 narrow .. 1 spread
    rounding: np.ndarray  # (f,) 0 .. 1
    teeth: np.ndarray  # (f,) 0 rows as far apart as the jaw .. 1 rows meet
    tongue: np.ndarray  # (f,) 0 lies low .. 1 tip at the upper teeth
    phonemes: tuple[str, ...]  # (f,) the sound of that moment; SIL in pauses and where nothing is said
    lip_gap: np.ndarray  # (f,) gap between the inner lips over the height of the face, as landmarks measure it
    lips: np.ndarray  # (f, 4, 11, 2) px: outer upper, inner upper, inner lower, outer lower edge, left to right
    reach: np.ndarray  # (f, n, 2) px: outline of what speech can move; outside, takes of one motion are equal
    pose: np.ndarray  # (f, 5) x and y in face units, roll, yaw and pitch in radians
    blink: np.ndarray  # (f,) 0 eyes open .. 1 shut
    brow: np.ndarray  # (f,) brows, -1 down .. 1 up, emotions beyond
    smile: np.ndarray  # (f,) corners of the mouth: -1 down .. 1 up, emotions beyond

    def to_json(self) -> dict[str, Any]:
        """Lists of rounded numbers by track."""
        return {field.name: self._rounded(field.name) for field in fields(self)}

    def _rounded(self, name: str) -> list[Any]:
        track = getattr(self, name)
        if isinstance(track, tuple):
            return list(track)
        return np.asarray(track, np.float64).round(_PIXEL_DIGITS if name in _IN_PIXELS else _DIGITS).tolist()


def measure(
    scene: Scene,
    times: np.ndarray,
    articulation: Articulation,
    phonemes: tuple[str, ...],
    moments: Iterable[tuple[FaceState, Pose]],
    blur: float,
) -> Truth:
    """The truth of what `scene` draws at `times` (f,): face states and poses, one a frame; `blur` px of the camera."""
    lips, gaps, reach, poses, faces = [], [], [], [], []
    for state, pose in moments:
        points, gap = _lips(scene, state, pose)
        lips.append(points)
        gaps.append(gap)
        reach.append(scene.reach(pose, _BLUR_REACH * blur))
        poses.append((pose.x, pose.y, pose.roll, pose.yaw, pose.pitch))
        faces.append((state.blink, state.brow, state.mouth.smile))
    blink, brow, smile = np.array(faces, np.float64).reshape(-1, 3).T
    return Truth(
        times=times,
        opening=articulation.opening,
        width=articulation.width,
        rounding=articulation.rounding,
        teeth=articulation.teeth,
        tongue=articulation.tongue,
        phonemes=phonemes,
        lip_gap=np.array(gaps),
        lips=np.array(lips, np.float32),
        reach=np.array(reach, np.float32),
        pose=np.array(poses, np.float64).reshape(-1, 5),
        blink=blink,
        brow=brow,
        smile=smile,
    )


def _lips(scene: Scene, state: FaceState, pose: Pose) -> tuple[np.ndarray, float]:
    """Lip points (4, 11, 2) px and the gap in the middle over the face's height."""
    shape = mouth.shape(scene.identity, state.mouth)
    points = mouth.lip_points(scene.identity, shape).reshape(-1, 2)
    ends = np.array(((0.0, _FOREHEAD), (0.0, scene.identity.chin + shape.jaw)))
    projected = scene.project(np.concatenate([points, ends]), pose)
    lips = projected[:-2].reshape(4, -1, 2)
    height = np.linalg.norm(projected[-1] - projected[-2])
    return lips, float(np.linalg.norm(lips[1, 5] - lips[2, 5]) / height)
