"""The files of one item, each measured once, on the clock of 25 pictures a second; and what a row compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.silence import SilenceGate
from latentsync.evaluation.articulation import MIN_FRAMES
from latentsync.evaluation.clock import frames_at_25, rate_note
from latentsync.evaluation.items import NOISE, SILENT, Item
from latentsync.evaluation.landmarks import LandmarkTrack, track_of
from latentsync.evaluation.mouths import MouthTrack
from latentsync.faces.detection import LandmarkDetector, default_detector
from latentsync.types import AUDIO_SAMPLE_RATE, Frame, InputError, VideoInfo

LENGTHS_ALIKE = 0.2  # seconds by which the lengths of files may differ without a word


@dataclass
class Material:
    """What was found out about the files of an item so far. Notes tell a reader of the results what was odd."""

    item: Item
    ticks: int | None = None  # of 1/25 s that are looked at: as many as the dub has
    notes: list[str] = field(default_factory=list)
    _tracks: dict[Path, LandmarkTrack] = field(default_factory=dict)
    _mouths: dict[Path, MouthTrack] = field(default_factory=dict)
    _sounds: dict[Path, np.ndarray] = field(default_factory=dict)

    @cached_property
    def _detector(self) -> LandmarkDetector:
        return default_detector()

    def track(self, path: Path) -> LandmarkTrack:
        """Landmarks of the face that was dubbed, in other files of the largest, one row a tick of 1/25 s.

        InputError: no video, or hardly a face in it.
        """
        if path not in self._tracks:
            self._note_rate(path)
            face = self.item.face if path in (self.item.dubbed, self.item.source, self.item.truth) else None
            found = track_of(self.frames(path), detector=self._detector, face=face)
            if found.seen.sum() < MIN_FRAMES:
                raise InputError(
                    f"'{path}' shows a face in {int(found.seen.sum())} of {len(found.times)} frames, too few to be "
                    "measured: give a video of a speaking face"
                )
            self._tracks[path] = found
        return self._tracks[path]

    def frames(self, path: Path) -> Iterator[Frame]:
        """Pictures of a video on the common clock, as far as the dub goes. InputError: not a readable video."""
        return islice(frames_at_25(path), self.ticks)

    def mouths(self, path: Path) -> MouthTrack:
        """The mouth of `track`."""
        if path not in self._mouths:
            self._mouths[path] = MouthTrack.of(self.track(path))
        return self._mouths[path]

    def sound(self, path: Path) -> np.ndarray:
        """(samples,) float32 at 16 kHz, from the first picture on. InputError: no sound in the file."""
        if path not in self._sounds:
            from latentsync.media.audio import read_waveform

            with read_waveform(path) as waveform:
                self._sounds[path] = waveform.read(0, len(waveform))
        return self._sounds[path]

    def info(self, path: Path) -> VideoInfo:
        """What the container says. InputError: not a readable video."""
        from latentsync.media.probe import probe_video

        return probe_video(path)

    def note(self, text: str | None) -> None:
        """Add a note; each is told once."""
        if text is not None and text not in self.notes:
            self.notes.append(text)

    def _note_rate(self, path: Path) -> None:
        self.note(rate_note(self.info(path)))


@dataclass(frozen=True)
class Take:
    """One row of a table: a video, what it should say, and what it is compared with.

    source: the video that was dubbed; right: the right answer, picture by picture; speaker: a video whose mouth says
    the same, of whatever head
    """

    row: str
    item: Item
    video: Path
    audio: Path
    source: Path | None
    right: Path | None
    speaker: Path | None
    material: Material

    @property
    def gaps(self) -> np.ndarray:
        """(f,) lip gap over face height of the video, at 25 a second; nan where no face was seen."""
        return self.material.mouths(self.video).gaps

    @property
    def times(self) -> np.ndarray:
        """(f,) seconds."""
        return self.material.mouths(self.video).times

    @property
    def waveform(self) -> np.ndarray:
        """(samples,) what the video should say."""
        return self.material.sound(self.audio)

    def spoken(self) -> np.ndarray:
        """(f,) bool: frames at which somebody speaks in the audio; nobody does in silent audio and in noise."""
        if self.item.setting in (SILENT, NOISE) or not self.waveform.any():
            return np.zeros(len(self.times), bool)
        return SilenceGate(ArrayWaveform(self.waveform)).gains(list(self.times)) > 0

    def heard(self) -> np.ndarray:
        """(f,) bool: frames that have audio."""
        return self.times < len(self.waveform) / AUDIO_SAMPLE_RATE

    def gaps_of(self, path: Path | None) -> np.ndarray | None:
        """(f,) lip gap of another file at the times of this one."""
        return None if path is None else self.material.mouths(path).gaps_at(self.times)


def note_lengths(take: Take) -> None:
    """Tell where the files of a row differ in length: what only one of them has is not compared."""
    lengths = {take.audio: len(take.waveform) / AUDIO_SAMPLE_RATE}
    for path in (take.video, take.source, take.right):
        if path is not None and (seconds := take.material.info(path).duration) is not None:
            lengths[path] = seconds
    if max(lengths.values()) - min(lengths.values()) > LENGTHS_ALIKE:
        told = ", ".join(f"{path.name} {seconds:.2f} s" for path, seconds in lengths.items())
        take.material.note(f"files of different length ({told}): compared as far as all go")
