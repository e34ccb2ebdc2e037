"""One source through all the stages, in one worker. Each stage's result is stored, so a killed run goes on there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from latentsync.data.cached import FeatureCache
from latentsync.data.manifest import AUDIO
from latentsync.data.preparation.critics import choose_critic
from latentsync.data.preparation.cuts import cuts, scenes, stands_still
from latentsync.data.preparation.extract import check_extractors
from latentsync.data.preparation.features import aligned_sound, finish_clip
from latentsync.data.preparation.outcome import DEFECT, OPEN, Drop, FinishedClip, Outcome, Place, failed_to_open
from latentsync.data.preparation.probe import probe
from latentsync.data.preparation.quality import quality
from latentsync.data.preparation.resample import resample
from latentsync.data.preparation.segments import split_scene
from latentsync.data.preparation.settings import Settings
from latentsync.data.preparation.sources import Shard, Source, VideoFile, open_source
from latentsync.data.preparation.speakers import Speakers
from latentsync.data.preparation.store import (
    DETAIL,
    DROPPED,
    FILES,
    SECONDS,
    UNREADABLE,
    Dropped,
    StageStore,
    check_disk,
)
from latentsync.data.preparation.sync import Spoken, SyncCritic, measure
from latentsync.data.preparation.tracking import TickStream, track_segment
from latentsync.faces.detection import LandmarkDetector, default_detector
from latentsync.hub import load_audio_encoder
from latentsync.types import MODEL_FPS, InputError


@dataclass(frozen=True)
class Job:
    """What every worker needs to know."""

    settings: Settings
    store: StageStore


@dataclass(frozen=True)
class Segment:
    """A part of a scene, in ticks of 1/25 s."""

    start: int
    stop: int
    key: str  # of its content and place


def prepare(job: Job, found: VideoFile | Shard) -> list[Outcome]:
    """Every video of a file or a shard. A video or a segment that fails for a reason of ours is a defect: told, and the
    rest go on. What cannot be kept, see `store.check_disk`, stops the run."""
    outcomes: list[Outcome] = []
    try:
        for source in open_source(found, job.store):
            outcomes.append(SourceChain(job, source).run())
    except (InputError, OSError) as error:
        check_disk(error)
        outcomes.append(failed_to_open(str(found.path), UNREADABLE, str(error)))
    return outcomes


class SourceChain:
    """The stages of one video."""

    def __init__(self, job: Job, source: Source) -> None:
        self.settings, self.store, self.source = job.settings, job.store, source
        self.outcome = Outcome(source.label, source.sha256)
        self._at = OPEN  # the stage that it has come to
        self._place = Place(source.label, source.sha256)
        self._measured: dict[str, float] = {}

    def run(self) -> Outcome:
        """All stages, as far as the video gets."""
        try:
            self._enter(OPEN)
            speaker, split = speaker_rule(self.settings.speakers).of(
                self.source.name, self.source.place, self.source.facts()
            )
            for segment in self._segments():
                self._guarded(segment, speaker, split)
        except InputError as error:
            self._drop(error)
        except Exception as error:
            self._defect(error)
        return self.outcome

    def _guarded(self, segment: Segment, speaker: str, split: str) -> None:
        """One segment; what happens to it does not hold up the others."""
        self._place = self._part(segment.start, segment.stop)
        self._measured = {}
        try:
            self.outcome.clips.append(self._clip(segment, speaker, split))
        except InputError as error:
            self._drop(error)
        except Exception as error:
            self._defect(error)

    def _segments(self) -> Iterator[Segment]:
        """Stages 1 to 4; scenes that give no segment are noted."""
        sha, path = self.source.sha256, self.source.path
        self._stage("probe", sha, lambda: probe(path))
        files = self._ticks_file, self._sound_file
        self._stage("resample", sha, lambda: {**resample(path, *files), FILES: self._names(*files)})
        found = self._stage("cuts", sha, lambda: cuts(path))
        self.ticks = np.load(self._ticks_file)
        self.sound = np.load(self._sound_file, mmap_mode="r")
        self.pictures = TickStream(path, self.ticks)
        for start, stop in scenes(self.ticks, found["cuts"]):
            yield from self._split(start, stop)

    def _split(self, start: int, stop: int) -> Iterator[Segment]:
        self._enter("segments")
        self._place, self._measured = self._part(start, stop), {}
        spans = split_scene(start, stop, self.settings.shortest_ticks, self.settings.longest_ticks)
        if stands_still(self.ticks, start, stop):
            self._drop(Dropped("the picture stands still"))
        elif not spans:
            self._drop(Dropped(f"shorter than {self.settings.shortest:g} s", f"{(stop - start) / MODEL_FPS:.2f} s"))
        else:
            for first, end in spans:
                facts = f"{self.source.sha256}:{first}:{end}:{self.store.fingerprints['track']}"
                yield Segment(first, end, hashlib.sha256(facts.encode()).hexdigest())

    def _clip(self, segment: Segment, speaker: str, split: str) -> FinishedClip:
        """Stages 5 to 8."""
        settings, key = self.settings, segment.key
        run = self._stage("track", key, lambda: self._track(segment))
        start, frames = run["start"], run["frames"]
        self._place = self._part(start, start + frames)
        crops = np.load(self._crops_file(key), mmap_mode="r")
        spoken = Spoken(crops, np.load(self._marks_file(key)), self.sound, start)
        score = self._stage("sync", key, lambda: measure(spoken, sync_critic(settings.critic), settings.reach))
        self._measured = {name: score[name] for name in ("offset", "confidence")}
        if score["confidence"] < settings.smallest_confidence:
            raise Dropped("confidence of the sync too small", f"{score['confidence']:.3f}")
        judged = self._stage("quality", key, lambda: quality(crops))
        self._measured["quality"] = judged["quality"]
        if judged["quality"] < settings.smallest_quality:
            raise Dropped("quality too small", f"{judged['quality']:.3f}")
        done = self._stage("features", key, lambda: self._finish(spoken, score["offset"], key))
        paths = done["clip"], done["mel"], done["audio_features"]
        return FinishedClip(self._place, frames, speaker, split, self._measured, *paths)

    def _track(self, segment: Segment) -> dict[str, Any]:
        items = self.pictures.between(segment.start, segment.stop)
        files = self._crops_file(segment.key), self._marks_file(segment.key)
        settings = self.settings
        made = track_segment(items, settings.resolution, settings.shortest_ticks, face_detector(), *files)
        return {**made, FILES: self._names(*files)}

    def _finish(self, spoken: Spoken, offset: float, key: str) -> dict[str, Any]:
        name = hashlib.sha256(f"{key}:{offset}".encode()).hexdigest()
        done = finish_clip(spoken, offset, self._crops_file(key), name, self.store.folder)
        features = None
        if self.settings.audio_encoder is not None:
            waveform, rows = aligned_sound(spoken, offset), rows_of(self.settings.audio_encoder, self.store.folder)
            (features,) = self._names(rows.stored(waveform).path)
            done[FILES].append(features)
        return {**done, "audio_features": features}

    def _stage(self, name: str, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored or new result of a stage; Dropped where the stage leaves it out."""
        self._enter(name)
        result = self.store.result(name, key, compute)
        self.outcome.seconds[name] += result[SECONDS]
        if DROPPED in result:
            raise Dropped(result[DROPPED], result[DETAIL])
        return result

    def _enter(self, stage: str) -> None:
        self._at = stage
        self.outcome.entered[stage] += 1

    def _drop(self, error: InputError) -> None:
        check_disk(error)
        drop = error if isinstance(error, Dropped) else Dropped(UNREADABLE, str(error))
        self.outcome.drops.append(Drop(self._place, self._at, drop.reason, drop.detail, self._measured))

    def _defect(self, error: Exception) -> None:
        check_disk(error)
        told, place = f"{type(error).__name__}: {error}", self._place
        part = "" if place.end is None else f", {place.start:.2f} to {place.end:.2f} s"
        self.outcome.defects.append(f"'{self.source.label}' at stage {self._at}{part}: {told}")
        self.outcome.drops.append(Drop(self._place, self._at, DEFECT, told, self._measured))

    def _part(self, start: int, stop: int) -> Place:
        return Place(self.source.label, self.source.sha256, start / MODEL_FPS, stop / MODEL_FPS)

    def _names(self, *files: Path) -> list[str]:
        return [file.relative_to(self.store.folder).as_posix() for file in files]

    @property
    def _ticks_file(self) -> Path:
        return self.store.path("resample", self.source.sha256, ".ticks.npy")

    @property
    def _sound_file(self) -> Path:
        return self.store.path("resample", self.source.sha256, ".sound.npy")

    def _crops_file(self, key: str) -> Path:
        return self.store.path("track", key, ".crops.npy")

    def _marks_file(self, key: str) -> Path:
        return self.store.path("track", key, ".landmarks.npy")


def check_tools(settings: Settings, found: Sequence[VideoFile | Shard]) -> None:
    """Load all that is needed, so that what is missing is told before any work. InputError, CheckpointError.

    Files may have changed since the last preparation of this process, so none of them is taken from there.
    """
    for loaded in (sync_critic, rows_of, speaker_rule):
        loaded.cache_clear()
    if find_spec("matplotlib") is None:
        raise InputError("matplotlib, which draws the report, is not installed: pip install 'latentsync[train]'")
    speaker_rule(settings.speakers).check(
        {str(video.path): video.name for video in found if isinstance(video, VideoFile)}
    )
    face_detector()
    sync_critic(settings.critic)
    if settings.audio_encoder is not None:
        load_audio_encoder(settings.audio_encoder)
    check_extractors(settings.visual)


# Loaded once in a worker: a preparation has one of each.
@lru_cache(maxsize=1)
def face_detector() -> LandmarkDetector:
    """What finds the faces."""
    return default_detector()


@lru_cache(maxsize=1)
def sync_critic(name: str | None) -> SyncCritic:
    """See `critics.choose_critic`."""
    return choose_critic(name)


@lru_cache(maxsize=1)
def rows_of(encoder: str, folder: Path) -> FeatureCache:
    """Features of sounds by a network, kept beside the manifest of `folder`, where trainings look for them."""
    return FeatureCache(load_audio_encoder(encoder), folder / AUDIO)


@lru_cache(maxsize=1)
def speaker_rule(rule: str) -> Speakers:
    """See `Speakers`."""
    return Speakers(rule)
