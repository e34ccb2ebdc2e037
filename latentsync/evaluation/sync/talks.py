"""Talks from a video, or from a prepared clip: faces followed once, pictures read again at every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from latentsync.data.crops import ClipCrops
from latentsync.data.preparation.tracking import Tick
from latentsync.evaluation.clock import frames_at_25, rate_note
from latentsync.evaluation.sync.critic import PICTURE_SAMPLES, Talk
from latentsync.faces.alignment import Aligner, anchor_points, crop
from latentsync.faces.detection import LandmarkDetector, default_detector
from latentsync.faces.tracking import SpeakerChooser, track
from latentsync.media.audio import read_waveform
from latentsync.media.probe import probe_video
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, WINDOW_FRAMES, Face, Frame, InputError

SHORTEST = WINDOW_FRAMES  # pictures of a talk: the longest window that a critic here looks at


class Film:
    """The pictures of a video, for passes over parts of it. A pass that begins behind the end of the one before goes on
    decoding from there, so that parts in order cost one decoding of the whole."""

    def __init__(self, frames: Callable[[], Iterator[Frame]]) -> None:
        """frames: a pass over all pictures, their `index` counting from 0."""
        self._frames = frames
        self._behind: tuple[int, Iterator[Frame]] | None = None  # where the last pass ended, and what follows

    def between(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The pictures `start` to `stop`, each (h, w, 3) uint8 RGB."""
        rest, self._behind = self._behind, None  # a pass that is under way, or was given up, is nobody else's
        at, frames = rest if rest is not None and rest[0] <= start else (0, self._frames())
        for frame in islice(frames, start - at, stop - at):
            if frame.index == stop - 1:
                self._behind = stop, frames
            yield frame.image


def film_talk(name: str, film: Film, start: int, landmarks: np.ndarray, waveform: np.ndarray) -> Talk:
    """The talk of the pictures of a film from `start` on, one for each row of `landmarks` (f, 478, 2) px; its aligned
    crops are cut out of them.

    waveform: (samples,) of the whole film; silence is heard where it ends early
    """
    stop = start + len(landmarks)

    def crops(resolution: int) -> Iterator[np.ndarray]:
        aligner = Aligner(resolution)
        for image, points in zip(film.between(start, stop), landmarks, strict=True):
            yield crop(image, aligner.matrix(anchor_points(points)), resolution)

    heard = waveform[start * PICTURE_SAMPLES :]
    return Talk(name, landmarks, heard, lambda: film.between(start, stop), crops).with_sound(heard)


def read_talks(path: Path | str, detector: LandmarkDetector | None = None) -> list[Talk]:
    """Every stretch of a video in which its largest face (then the one followed) is seen without a break, in order,
    each with the sound of its own pictures.

    A video of another frame rate is looked at on a clock of 25 a second, each tick showing the picture nearest in time;
    the talks' notes say so. InputError: no readable video, no sound, no face, or none for 16 pictures in a row.
    """
    path = Path(path)
    with read_waveform(path) as sound:
        waveform = sound.read(0, len(sound))

    def frames() -> Iterator[Frame]:
        return islice(frames_at_25(path), len(waveform) // PICTURE_SAMPLES)

    faces = list(_followed(frames(), detector or default_detector()))
    spans = [span for span in _spans(faces) if len(span) >= SHORTEST]
    if not spans:
        raise InputError(f"{path}: {_too_little(faces)}; give a longer clip of one person's face")
    notes = _notes(rate_note(probe_video(path)), sum(map(len, spans)), len(faces))
    film, made = Film(frames), []
    for span in spans:
        landmarks = np.stack([face.landmarks for face in faces[span.start : span.stop] if face is not None])
        made.append(replace(film_talk(path.stem, film, span.start, landmarks, waveform), notes=notes))
    return made


def _followed(frames: Iterable[Frame], detector: LandmarkDetector) -> Iterator[Face | None]:
    """The face that is followed, in every picture."""
    chooser = SpeakerChooser()
    for item, faces, _ in track(map(Tick, frames), detector):
        yield chooser.choose(faces, (item.frame.image.shape[1], item.frame.image.shape[0]))


def _spans(faces: Sequence[Face | None]) -> Iterator[range]:
    """Pictures in which one face is seen without a break."""
    tracks = [None if face is None else face.track for face in faces]
    for followed, ticks in groupby(range(len(faces)), key=tracks.__getitem__):
        first, *others = ticks
        if followed is not None:
            yield range(first, first + 1 + len(others))


def _too_little(faces: Sequence[Face | None]) -> str:
    if len(faces) < SHORTEST:
        return f"pictures with sound last {len(faces) / MODEL_FPS:.2f} s, and {SHORTEST / MODEL_FPS:g} s are needed"
    longest = max(map(len, _spans(faces)), default=0)
    if not longest:
        return "no face was found in any picture"
    return f"a face is seen in {longest} pictures in a row at most, and {SHORTEST} are needed"


def _notes(rate: str | None, judged: int, ticks: int) -> tuple[str, ...]:
    left_out = f"{judged} of {ticks} pictures were judged: the others show no face for long enough"
    return tuple(note for note in (rate, left_out if judged < ticks else None) if note is not None)


def prepared_talk(clip: ClipCrops) -> Talk:
    """A talk of a prepared clip, its crops as they were prepared; whole pictures it has none.

    InputError where the clip is not at 25 pictures a second with a face in each.
    """
    steady = np.abs(np.diff(clip.times) * MODEL_FPS - 1) < 1 / 2
    if not clip.usable.all() or not steady.all():
        raise InputError(f"{clip.name} lacks a face in places, or is not at {MODEL_FPS:g} a second: prepare it again")
    start = round(float(clip.times[0]) * AUDIO_SAMPLE_RATE)

    def pictures() -> Iterator[np.ndarray]:
        raise InputError(f"{clip.name} is a prepared clip without whole pictures: give its video")

    return Talk(
        clip.name,
        np.asarray(clip.landmarks, np.float32),
        clip.waveform[start : start + len(clip) * PICTURE_SAMPLES],
        pictures,
        lambda resolution: iter(np.asarray(clip.crops)),
        speaker=clip.speaker,
    )
