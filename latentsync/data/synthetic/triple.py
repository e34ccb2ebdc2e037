"""A video to dub and its right answer: one person in one motion, saying what was said and what was to be said."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentsync.data.synthetic.camera import Camera
from latentsync.data.synthetic.clip import SyntheticSpeaker, write_clip
from latentsync.data.synthetic.speech import Speech, synthesize_speech
from latentsync.data.synthetic.truth import Truth
from latentsync.data.synthetic.voice import Voice
from latentsync.media.audio import write_wav
from latentsync.media.outputs import PrivateFile
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, InputError

SOURCE, SPEECH, ANSWER, TRUTH = "source.mp4", "speech.wav", "truth.mp4", "truth.json"
QUALITY = 13  # libx264's constant rate factor: what the codec takes away stays below the camera's grain


@dataclass(frozen=True)
class Counterfactual:
    """Source and answer have the same person, room, motion and grain; they differ in what the mouth says."""

    speaker: SyntheticSpeaker
    spoken: Speech  # what the source video says
    wanted: Speech  # what it is to be made to say; as long as `spoken`
    motion_seed: int
    fps: float = MODEL_FPS

    def __post_init__(self) -> None:
        if len(self.spoken.waveform) != len(self.wanted.waveform):
            lengths = f"{self.spoken.seconds:.2f} s and {self.wanted.seconds:.2f} s"
            raise InputError(f"The two utterances last {lengths}; make both with the same `seconds`.")

    def source_frames(self) -> Iterator[np.ndarray]:
        """The video to dub: uint8 RGB (height, width, 3), one by one."""
        return self.speaker.frames(self.spoken, self.motion_seed, fps=self.fps)

    def true_frames(self) -> Iterator[np.ndarray]:
        """What a perfect dub shows: uint8 RGB (height, width, 3), one by one."""
        return self.speaker.frames(self.wanted, self.motion_seed, fps=self.fps)

    def source_truth(self) -> Truth:
        """The tracks of `source_frames`."""
        return self.speaker.truth(self.spoken, self.motion_seed, fps=self.fps)

    def truth(self) -> Truth:
        """The tracks of `true_frames`."""
        return self.speaker.truth(self.wanted, self.motion_seed, fps=self.fps)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write source.mp4, speech.wav, truth.mp4 and last truth.json into `folder`, which is made.

        truth.json: `fps`, and under `source` and `truth` the texts, the phonemes with their times and all tracks of
        `Truth`. A folder that has it is complete.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, frames, speech in (
            (SOURCE, self.source_frames(), self.spoken),
            (ANSWER, self.true_frames(), self.wanted),
        ):
            write_clip(folder / name, frames, fps=self.fps, waveform=speech.waveform, crf=QUALITY)
        wav, truth = PrivateFile(folder / SPEECH), PrivateFile(folder / TRUTH)
        write_wav(wav.path, self.wanted.waveform, AUDIO_SAMPLE_RATE)
        wav.publish()
        sides = {"source": (self.spoken, self.source_truth()), "truth": (self.wanted, self.truth())}
        known = {"fps": self.fps, **{side: _said(speech) | track.to_json() for side, (speech, track) in sides.items()}}
        truth.path.write_text(json.dumps(known) + "\n", encoding="utf-8")
        truth.publish()


def counterfactual(
    identity_seed: int,
    *,
    seconds: float = 3.0,
    size: int | tuple[int, int] = 256,
    speech_seeds: tuple[int, int] | None = None,
    motion_seed: int | None = None,
    voices: tuple[Voice, Voice] | None = None,
    emotion: str | None = None,
    motion: float = 1.0,
    camera: Camera | None = None,
    fps: float = MODEL_FPS,
) -> Counterfactual:
    """A person with two utterances of `seconds`; what is not given is drawn from `identity_seed`.

    speech_seeds, voices: of what the source says and of what it is to say; by default one voice says both.
    The rest as for `SyntheticSpeaker`.
    """
    voice = Voice.random(identity_seed)
    seeds = speech_seeds or (2 * identity_seed, 2 * identity_seed + 1)
    spoken, wanted = (
        synthesize_speech(seed, seconds=seconds, voice=said)
        for seed, said in zip(seeds, voices or (voice, voice), strict=True)
    )
    speaker = SyntheticSpeaker(identity_seed, size, emotion=emotion, motion=motion, camera=camera)
    return Counterfactual(speaker, spoken, wanted, identity_seed if motion_seed is None else motion_seed, fps)


def _said(speech: Speech) -> dict[str, object]:
    times = [[p.symbol, round(p.start, 6), round(p.stop, 6)] for p in speech.phonemes]
    return {"text": speech.text, "phoneme_times": times}
