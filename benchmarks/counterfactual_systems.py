"""Dubs that the counterfactual scores come with: a mouth copied from another moment, and those of a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import common
import numpy as np
from dubs import Dubber

from latentsync.evaluation.landmarks import LandmarkTrack
from latentsync.faces import alignment, masks
from latentsync.faces.paste import ColourMatch, paste_back
from latentsync.media.reader import VideoReader
from latentsync.media.writer import VideoWriter
from latentsync.types import AUDIO_SAMPLE_RATE, InputError

RANDOM, NOTHING, RIGHT = "a random mouth", "nothing done", "the right answer"
CROP = 256  # px of the aligned face that a mouth is copied at
NEAREST = 0.25  # of the clip, that the copied moment lies away at least, either way


def folders_by_name(folders: Sequence[Path], checkpoint: str | None) -> dict[str, Path]:
    """Folders of dubs by the name that their row has. InputError where two rows would have one name."""
    names = [NOTHING, RANDOM, RIGHT, *(path.resolve().name for path in folders)]
    names += [] if checkpoint is None else [Path(checkpoint).name]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two rows of the table would be called {twice[0]!r}: rename a folder of dubs")
    return {path.resolve().name: path for path in folders}


def dubs_in(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """The dubs in a folder that are called like one of `names`. InputError where there is none."""
    wanted = list(names)
    found = {name: dub for name in wanted if (dub := common.dub_in(folder, name)) is not None}
    if not found:
        raise InputError(f"{folder} holds no dub of these clips: name them {wanted[0]}.mp4 and so on")
    return found


def random_start(name: str, frames: int) -> int:
    """How many frames later the copied mouth is seen in the source: a function of the clip's name."""
    seed = list(hashlib.sha256(name.encode()).digest()[:8])
    low = max(1, round(NEAREST * frames))
    return int(np.random.default_rng(seed).integers(low, max(low + 1, frames - low + 1)))


def copied_mouth(video: Path, audio: Path, track: LandmarkTrack, name: str) -> Path:
    """`video` with its own mouths of another moment, running on from there and round, and the sound of `audio`.

    It moves like speech, sharply and at the right place, and says the wrong thing: what is gained over it is speech.
    track: landmarks of `video`; frames without a face stay as they are. Made once for a name.
    """
    out = common.WORK / "random_mouth" / f"{name}.mp4"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        later, reader = random_start(name, len(track.times)), VideoReader(video)
        crops = list(_crops(reader, track))
        seconds = len(common.waveform_of(audio)) / AUDIO_SAMPLE_RATE
        with VideoWriter(out, reader.info, audio=audio, audio_seconds=seconds) as writer:
            for frame, image in _pasted(VideoReader(video), track, crops, later):
                writer.write(image, frame)
    return out


def _matrix(points: np.ndarray) -> np.ndarray | None:
    if not np.isfinite(points).all():
        return None
    return alignment.Aligner(CROP).matrix(alignment.anchor_points(points))


def _crops(reader: VideoReader, track: LandmarkTrack) -> Iterator[np.ndarray | None]:
    for frame, points in zip(reader.frames(), track.landmarks, strict=False):
        matrix = _matrix(points)
        yield None if matrix is None else alignment.crop(frame.image, matrix, CROP)


def _pasted(
    reader: VideoReader, track: LandmarkTrack, crops: list[np.ndarray | None], later: int
) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, picture) of every frame."""
    mask, colour = masks.inpaint_mask(CROP), ColourMatch()
    for index, (frame, points) in enumerate(zip(reader.frames(), track.landmarks, strict=False)):
        matrix, mouth = _matrix(points), crops[(index + later) % len(crops)]
        image = frame.image
        if matrix is not None and mouth is not None:
            image = paste_back(image, mouth, matrix, mask, colour, points, "mouth")
        yield frame.time, image


def checkpoint_dubs(checkpoint: str, jobs: dict[str, tuple[Path, Path]]) -> dict[str, Path]:
    """A checkpoint's dubs by name, made where they are missing; jobs: (video, audio) by name."""
    dubber = Dubber(checkpoint, seed=0)
    made = {}
    for number, (name, (video, audio)) in enumerate(jobs.items(), 1):
        made[name] = dubber(video, audio, name)
        print(f"{number}/{len(jobs)} dubbed {name}", flush=True)
    return made
