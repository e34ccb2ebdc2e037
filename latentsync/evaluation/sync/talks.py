"""Talks from a video, or from a prepared clip: faces followed once, pictures read again at every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from latentsync.data.crops import ClipCrops
from latentsync.data.preparation.resample import picture_times, tick_table
from latentsync.data.preparation.tracking import Tick, TickStream
from latentsync.evaluation.sync.critic import PICTURE_SAMPLES, Talk
from latentsync.faces.alignment import Aligner, anchor_points, crop
from latentsync.faces.detection import LandmarkDetector, default_detector
from latentsync.faces.tracking import SpeakerChooser, track
from latentsync.media.audio import read_waveform
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, WINDOW_FRAMES, InputError

SHORTEST = WINDOW_FRAMES  # pictures of a talk: the longest window that a critic here looks at
SAME_RATE = 0.01  # pictures a second by which a file may differ from 25 before it is said


@dataclass
class _Run:
    """Consecutive ticks with one face."""

    start: int
    track: int
    landmarks: list[np.ndarray] = field(default_factory=list)


def read_talks(path: Path | str, detector: LandmarkDetector | None = None) -> list[Talk]:
    """Every stretch of a video in which its largest face (then the one followed) is seen without a break, in order,
    each with the sound of its own pictures.

    A video of another frame rate is looked at on a clock of 25 a second, each tick showing the picture nearest in time;
    the talks' notes say so. InputError: no readable video, no sound, no face, or none for 16 pictures in a row.
    """
    path = Path(path)
    times, end, _ = picture_times(path)
    with read_waveform(path) as sound:
        waveform = sound.read(0, len(sound))
    ticks = tick_table(times, min(end, len(waveform) / AUDIO_SAMPLE_RATE))
    runs = list(_runs(TickStream(path, ticks).between(0, len(ticks)), detector or default_detector()))
    kept = [run for run in runs if len(run.landmarks) >= SHORTEST]
    if not kept:
        raise InputError(f"{path}: {_too_little(runs, len(ticks))}; give a longer clip of one person's face")
    notes = _notes(times, sum(len(run.landmarks) for run in kept), len(ticks))
    return [_talk(path, run, ticks, waveform, notes) for run in kept]


def _runs(items: Iterable[Tick], detector: LandmarkDetector) -> Iterator[_Run]:
    chooser, run = SpeakerChooser(), None
    for item, faces, _ in track(items, detector):
        face = chooser.choose(faces, (item.frame.image.shape[1], item.frame.image.shape[0]))
        if run is not None and (face is None or face.track != run.track):
            yield run
            run = None
        if face is not None:
            run = run or _Run(item.frame.index, face.track)
            run.landmarks.append(face.landmarks)
    if run is not None:
        yield run


def _too_little(runs: list[_Run], ticks: int) -> str:
    if ticks < SHORTEST:
        return f"pictures with sound last {ticks / MODEL_FPS:.2f} s, and {SHORTEST / MODEL_FPS:g} s are needed"
    if not runs:
        return "no face was found in any picture"
    longest = max(len(run.landmarks) for run in runs)
    return f"a face is seen in {longest} pictures in a row at most, and {SHORTEST} are needed"


def _notes(times: np.ndarray, judged: int, ticks: int) -> tuple[str, ...]:
    rate, notes = (len(times) - 1) / max(times[-1] - times[0], 1 / MODEL_FPS), []
    if abs(rate - MODEL_FPS) > SAME_RATE:
        notes.append(
            f"{rate:.2f} pictures a second were judged on a clock of {MODEL_FPS:g}, each tick by the picture nearest "
            "in time"
        )
    if judged < ticks:
        notes.append(f"{judged} of {ticks} pictures were judged: the others show no face for long enough")
    return tuple(notes)


def _talk(path: Path, run: _Run, ticks: np.ndarray, waveform: np.ndarray, notes: tuple[str, ...]) -> Talk:
    stop = run.start + len(run.landmarks)

    def pictures() -> Iterator[np.ndarray]:
        return (tick.frame.image for tick in TickStream(path, ticks).between(run.start, stop))

    sound = waveform[run.start * PICTURE_SAMPLES : stop * PICTURE_SAMPLES]
    made = talk_of(path.stem, np.stack(run.landmarks).astype(np.float32), sound, pictures)
    return replace(made, start=run.start / MODEL_FPS, notes=notes)


def talk_of(
    name: str, landmarks: np.ndarray, waveform: np.ndarray, pictures: Callable[[], Iterator[np.ndarray]]
) -> Talk:
    """A talk whose aligned crops are cut out of its pictures. Arguments as `Talk` has them."""

    def crops(resolution: int) -> Iterator[np.ndarray]:
        aligner = Aligner(resolution)
        for image, points in zip(pictures(), landmarks, strict=True):
            yield crop(image, aligner.matrix(anchor_points(points)), resolution)

    return Talk(name, landmarks, waveform, pictures, crops)


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
        lambda resolution: iter(clip.crops),
        start=float(clip.times[0]),
        speaker=clip.speaker,
    )
