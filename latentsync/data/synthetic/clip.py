"""Talking heads whose truth is known: frames one by one, the true mouth of each, and clips on disk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from latentsync.data.synthetic.camera import Camera, Exposure
from latentsync.data.synthetic.emotion import find_emotion
from latentsync.data.synthetic.face import FaceState
from latentsync.data.synthetic.identity import Identity
from latentsync.data.synthetic.mouth import MouthState
from latentsync.data.synthetic.scene import MOST_MOTION, Ambient, Pose, Scene
from latentsync.data.synthetic.speech import Articulation, Speech
from latentsync.data.synthetic.truth import Truth, measure
from latentsync.media.outputs import PrivateFile, check_output
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, InputError


class SyntheticSpeaker:
    """One person, a function of `identity_seed`, before a camera of `size` (width, height) or a square of `size` px.

    emotion: a name of EMOTIONS; None: each motion seed has a mood of its own. motion: how much the head moves, 1 usual,
    at most MOST_MOTION. A take is a function of these, the speech, the motion seed and the frame rate: the same motion
    seed with another speech is the counterfactual, equal in everything that speech does not move.
    """

    def __init__(
        self,
        identity_seed: int,
        size: int | tuple[int, int] = 256,
        *,
        emotion: str | None = None,
        motion: float = 1.0,
        camera: Camera | None = None,
    ) -> None:
        if not 0 <= motion <= MOST_MOTION:
            raise InputError(f"motion is {motion:g}; give a number from 0 (still) to {MOST_MOTION:g}.")
        width, height = (size, size) if isinstance(size, int) else size
        self.identity = Identity.random(identity_seed)
        self.emotion, self.motion, self.camera = find_emotion(emotion), motion, camera or Camera()
        self.scene = Scene(self.identity, width, height)

    def frames(
        self, speech: Speech, motion_seed: int, *, fps: float = MODEL_FPS, seconds: float | None = None
    ) -> Iterator[np.ndarray]:
        """uint8 RGB (height, width, 3), one by one, for `seconds` or as long as the speech lasts."""
        exposure = self._exposure(motion_seed)
        times = _times(speech, fps, seconds)
        for index, (state, pose) in enumerate(self._moments(speech.articulation(times), times, motion_seed)):
            yield exposure.expose(self.scene.draw(state, pose), index)

    def frame(self, speech: Speech, motion_seed: int, index: int, *, fps: float = MODEL_FPS) -> np.ndarray:
        """Number `index` of `frames`, drawn alone: uint8 RGB (height, width, 3)."""
        times = np.array([index / fps])
        state, pose = next(self._moments(speech.articulation(times), times, motion_seed))
        return self._exposure(motion_seed).expose(self.scene.draw(state, pose), index)

    def truth(self, speech: Speech, motion_seed: int, *, fps: float = MODEL_FPS, seconds: float | None = None) -> Truth:
        """The truth of `frames` with the same arguments; nothing is drawn."""
        times = _times(speech, fps, seconds)
        articulation = speech.articulation(times)
        moments = self._moments(articulation, times, motion_seed)
        return measure(self.scene, times, articulation, speech.sounds_at(times), moments, self.camera.blur)

    def _exposure(self, motion_seed: int) -> Exposure:
        return Exposure(self.camera, self.identity.noise, (self.scene.height, self.scene.width), motion_seed)

    def _moments(
        self, articulation: Articulation, times: np.ndarray, motion_seed: int
    ) -> Iterator[tuple[FaceState, Pose]]:
        ambient = Ambient(motion_seed, self.emotion, self.motion)
        for index, time in enumerate(times):
            pose = ambient.at(float(time))
            yield _face_state(articulation, index, pose), pose


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
    """Encode frames (h, w, 3), streaming, as H.264 with AAC sound; the file appears when it is complete.

    crf: libx264's quality, lower is better. InputError: no frames, odd sides, a place that cannot be written.
    """
    check_output(path, ())
    private = PrivateFile(Path(path))
    try:
        _encode(private.path, frames, Fraction(fps).limit_denominator(1001), waveform, crf)
        private.publish()
    finally:
        private.remove()


def _encode(path: Path, frames: Iterable[np.ndarray], rate: Fraction, waveform: np.ndarray | None, crf: int) -> None:
    import av

    frames = iter(frames)
    first = next(frames, None)
    if first is None or first.shape[0] % 2 or first.shape[1] % 2:
        found = "no frames" if first is None else f"frames of {first.shape[1]} x {first.shape[0]} px"
        raise InputError(f"write_clip got {found}; give at least one frame with an even width and height.")
    with av.open(os.fspath(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "medium"})
        video.pix_fmt = "yuv420p"
        video.height, video.width = first.shape[:2]
        sound = container.add_stream("aac", rate=AUDIO_SAMPLE_RATE, layout="mono") if waveform is not None else None
        for image in itertools.chain([first], frames):
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
    mouth = MouthState(opening, width, rounding, teeth, tongue, pose.smile)
    return FaceState(mouth, pose.blink, pose.brow, pose.gaze, pose.frown, pose.lids)
