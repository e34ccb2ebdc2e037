"""What a critic of lip sync looks at, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from latentsync.faces.regions import landmark_box
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, InputError

MAX_SHIFT = 15  # frames to either side at which sound is tried, as the field's evaluations do
PICTURE_SAMPLES = int(AUDIO_SAMPLE_RATE / MODEL_FPS)  # 640 samples of sound to one picture


@dataclass(frozen=True)
class Talk:
    """One face seen without a break at 25 pictures a second, and the sound that belongs to these pictures.

    Pictures are read again at every pass, so memory holds none of them. Both readers raise InputError where the talk
    was made without what they would read.
    """

    name: str
    landmarks: np.ndarray  # (f, 478, 2) float32 px of the whole picture
    waveform: np.ndarray  # (f * 640,) float32, 16 kHz; sample 640 i belongs to picture i
    pictures: Callable[[], Iterator[np.ndarray]]  # a pass over the whole pictures, each (h, w, 3) uint8 RGB
    crops: Callable[[int], Iterator[np.ndarray]]  # a pass over aligned faces (r, r, 3) uint8 at r px; see `talks`
    speaker: str = ""  # who speaks; "" where that is not known
    notes: tuple[str, ...] = ()  # what a reader of the results must know, e.g. that the frame rate was changed

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def boxes(self) -> np.ndarray:
        """(f, 4) left, top, right, bottom px of the face."""
        return np.array([landmark_box(points) for points in self.landmarks])

    def shows_what(self, other: Talk) -> bool:
        """Whether both are made of the very same pictures, whatever is heard."""
        mine, theirs = ((one.landmarks, one.pictures, one.crops) for one in (self, other))
        return all(one is another for one, another in zip(mine, theirs, strict=True))

    def with_sound(self, waveform: np.ndarray) -> Talk:
        """The same pictures with other sound (samples,), cut or filled with silence to their length."""
        samples = len(self) * PICTURE_SAMPLES
        sound = np.pad(waveform[:samples], (0, max(0, samples - len(waveform)))).astype(np.float32)
        return replace(self, waveform=sound)

    def shifted(self, late: int) -> Talk:
        """The same pictures with sound that comes `late` frames later (earlier where negative), silence at the end."""
        moved = np.roll(self.waveform, late * PICTURE_SAMPLES)
        gap = slice(0, late * PICTURE_SAMPLES) if late > 0 else slice(len(moved) + late * PICTURE_SAMPLES, None)
        moved[gap] = 0.0
        return replace(self, waveform=moved)


class SyncCritic(Protocol):
    """Says of every window of pictures how well it fits the sound, as it is and moved."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def frames(self) -> int:
        """Pictures of a window, at 25 a second."""
        ...

    @property
    def threshold(self) -> float | None:
        """Score from which picture and sound count as of one moment; None where the scale has no such place."""
        ...

    def scores(self, talk: Talk, max_shift: int = MAX_SHIFT) -> np.ndarray:
        """(windows, 2 * max_shift + 1) float: how well window i, of the pictures from i on, fits the sound that is
        heard column - `max_shift` frames after it; higher is more in sync.

        So the best column of a talk whose sound comes k frames too late is `max_shift` + k. Sound that would lie
        outside the talk is scored as a vector of zeros. InputError when the talk is too short for a window, or has not
        what the critic looks at.
        """
        ...


def check_length(talk: Talk, frames: int) -> None:
    """InputError where a talk has fewer than `frames` pictures, or less sound than belongs to these."""
    heard = len(talk.waveform) // PICTURE_SAMPLES
    if min(len(talk), heard) < frames:
        raise InputError(
            f"{talk.name} has {len(talk)} pictures of a face and sound for {heard}, and the critic needs {frames} at "
            f"{MODEL_FPS:g} a second: give a longer clip"
        )
