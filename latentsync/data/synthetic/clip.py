"""Talking heads whose truth is known: frames one by one, the true mouth of each, and clips on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from latentsync.data.synthetic import mouth
from latentsync.data.synthetic.face import FaceState
from latentsync.data.synthetic.identity import Identity
from latentsync.data.synthetic.mouth import MouthState
from latentsync.data.synthetic.scene import Ambient, Pose, Scene
from latentsync.data.synthetic.speech import Articulation, Speech
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS

_FOREHEAD = -1.12  # y of the top of the face as the face mesh sees it, face units


@dataclass(frozen=True)
class Truth:
    """What a take shows, exactly."""

    times: np.ndarray  # (f,) seconds
    opening: np.ndarray  # (f,) 0 lips closed .. 1 wide open
    lip_gap: np.ndarray  # (f,) gap between the inner lips over the height of the face, as landmarks measure it
    lips: np.ndarray  # (f, 4, 11, 2) pixels: outer upper, inner upper, inner lower, outer lower edge, left to right


class SyntheticSpeaker:
    """One person, a function of `seed`, before a camera of `size` (width, height) or a square of `size` pixels.

    A take is a function of (seed, size, speech, motion seed, frame rate): the same motion seed with another speech is
    the counterfactual, equal in everything that speech does not move.
    """

    def __init__(self, seed: int, size: int | tuple[int, int] = 256) -> None:
        width, height = (size, size) if isinstance(size, int) else size
        self.identity = Identity.random(seed)
        self.scene = Scene(self.identity, width, height)

    def frames(
        self, speech: Speech, motion_seed: int, *, fps: float = MODEL_FPS, seconds: float | None = None
    ) -> Iterator[np.ndarray]:
        """uint8 RGB (height, width, 3), one by one, for `seconds` or as long as the speech lasts."""
        ambient = Ambient(motion_seed)
        times = _times(speech, fps, seconds)
        noise = _CameraNoise(self.identity.noise, self.scene.height, self.scene.width, motion_seed)
        articulation = speech.articulation(times)
        for index, time in enumerate(times):
            pose = ambient.at(float(time))
            picture = self.scene.draw(_face_state(articulation, index, pose), pose)
            yield noise.expose(picture, index)

    def truth(self, speech: Speech, motion_seed: int, *, fps: float = MODEL_FPS, seconds: float | None = None) -> Truth:
        """The truth of `frames` with the same arguments; nothing is drawn."""
        ambient = Ambient(motion_seed)
        times = _times(speech, fps, seconds)
        articulation = speech.articulation(times)
        lips, gaps = [], []
        for index, time in enumerate(times):
            pose = ambient.at(float(time))
            shape = mouth.shape(self.identity, _face_state(articulation, index, pose).mouth)
            points = mouth.lip_points(self.identity, shape).reshape(-1, 2)
            ends = np.array(((0.0, _FOREHEAD), (0.0, self.identity.chin + shape.jaw)))
            projected = self.scene.project(np.concatenate([points, ends]), pose)
            lips.append(projected[:-2].reshape(4, -1, 2))
            height = np.linalg.norm(projected[-1] - projected[-2])
            gaps.append(np.linalg.norm(lips[-1][1, 5] - lips[-1][2, 5]) / height)
        return Truth(times, articulation.opening, np.array(gaps), np.array(lips, np.float32))


def render(
    identity_seed: int,
    speech: Speech,
    motion_seed: int,
    *,
    fps: float = MODEL_FPS,
    size: int | tuple[int, int] = 256,
    seconds: float | None = None,
) -> Iterator[np.ndarray]:
    """Frames of a new `SyntheticSpeaker`; keep the speaker yourself for several takes, painting it takes a second."""
    return SyntheticSpeaker(identity_seed, size).frames(speech, motion_seed, fps=fps, seconds=seconds)


def write_clip(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    *,
    fps: float = MODEL_FPS,
    waveform: np.ndarray | None = None,
    crf: int = 16,
) -> None:
    """Encode frames (h, w, 3) with even sides, streaming, as H.264 with AAC sound; `crf` is libx264's quality."""
    import av

    rate = Fraction(fps).limit_denominator(1001)
    with av.open(os.fspath(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "medium"})
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=AUDIO_SAMPLE_RATE, layout="mono") if waveform is not None else None
        for index, image in enumerate(frames):
            if index == 0:
                video.height, video.width = image.shape[:2]
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        if sound is not None and waveform is not None:
            _write_sound(container, sound, waveform)


def _write_sound(container: Any, stream: Any, waveform: np.ndarray) -> None:
    import av

    block = 1024
    for start in range(0, len(waveform), block):
        frame = av.AudioFrame.from_ndarray(waveform[None, start : start + block], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_SAMPLE_RATE, start, Fraction(1, AUDIO_SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _times(speech: Speech, fps: float, seconds: float | None) -> np.ndarray:
    return np.arange(round((speech.seconds if seconds is None else seconds) * fps)) / fps


def _face_state(articulation: Articulation, index: int, pose: Pose) -> FaceState:
    a = articulation
    spoken = (float(track[index]) for track in (a.opening, a.width, a.rounding, a.teeth, a.tongue))
    opening, width, rounding, teeth, tongue = spoken
    return FaceState(MouthState(opening, width, rounding, teeth, tongue, pose.smile), pose.blink, pose.brow, pose.gaze)


class _CameraNoise:
    """Grain, a function of (seed, frame): a window moving at random over one large tile of noise."""

    _MARGIN = 61

    def __init__(self, deviation: float, height: int, width: int, seed: int) -> None:
        rng = np.random.default_rng([0x6041, seed])
        shape = (height + self._MARGIN, width + self._MARGIN, 3)
        self._tile = rng.standard_normal(shape, np.float32) * np.float32(deviation / 255)
        self._seed, self._size = seed, (height, width)

    def expose(self, picture: np.ndarray, index: int) -> np.ndarray:
        import cv2

        top, left = np.random.default_rng([0x6042, self._seed, index]).integers(0, self._MARGIN + 1, 2)
        height, width = self._size
        picture += self._tile[top : top + height, left : left + width]
        return cv2.convertScaleAbs(np.maximum(picture, 0, out=picture), alpha=255)
