"""The options of a preparation, checked, and the fingerprints that say which results of stages still hold."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from latentsync.data.preparation.extract import VisualOptions
from latentsync.data.preparation.outcome import OPEN
from latentsync.hub.networks import SYNCNET_FILE, WHISPER_FILE, locate
from latentsync.hub.tensors import sha256_file
from latentsync.types import MODEL_FPS, WINDOW_FRAMES, InputError

STAGES = (OPEN, "probe", "resample", "cuts", "segments", "track", "sync", "quality", "features")
REVISIONS = {OPEN: 1, "probe": 1, "resample": 1, "cuts": 1, "track": 1, "sync": 1, "quality": 1, "features": 2}
"""Stages with results on disk; the number is counted up where a stage's code changes them."""
BUILT_ON = {"resample": "probe", "cuts": "resample", "track": "cuts", "sync": "track", "quality": "track",
            "features": "sync"}  # fmt: skip
FINGERPRINT = 10  # hexadecimal digits in a folder's name
SMALLEST_RESOLUTION = 32  # px
FEWEST_SECONDS = 2 * WINDOW_FRAMES / MODEL_FPS  # a window and a reference from another moment


@dataclass(frozen=True)
class Settings:
    """Options of one preparation; see `configs/prepare.yaml`. Goes to every worker."""

    videos: tuple[str, ...]
    folder: Path
    speakers: str
    resolution: int
    workers: int
    shortest: float  # seconds
    longest: float  # seconds
    critic: str | None
    reach: int  # frames
    smallest_confidence: float
    smallest_quality: float
    audio_encoder: str | None
    visual: VisualOptions
    validation: float
    seed: int

    @property
    def shortest_ticks(self) -> int:
        """Frames of the shortest segment."""
        return round(self.shortest * MODEL_FPS)

    @property
    def longest_ticks(self) -> int:
        """Frames of the longest segment."""
        return round(self.longest * MODEL_FPS)


def read_settings(config: DictConfig) -> Settings:
    """The settings of a merged configuration of the form of `configs/prepare.yaml`. InputError for senseless values."""
    settings = Settings(
        videos=tuple(str(name) for name in config.videos),
        folder=Path(config.folder),
        speakers=str(config.speakers),
        resolution=config.resolution,
        workers=_cores() if config.workers is None else config.workers,
        shortest=float(config.segments.shortest),
        longest=float(config.segments.longest),
        critic=config.sync.critic,
        reach=config.sync.reach,
        smallest_confidence=float(config.sync.smallest_confidence),
        smallest_quality=float(config.quality.smallest),
        audio_encoder=config.features.audio_encoder,
        visual=VisualOptions(
            tuple(config.features.visual),
            config.features.visual_size,
            config.features.parser,
            config.features.landmarker,
        ),
        validation=float(config.split.validation),
        seed=config.split.seed,
    )
    for complaint in _complaints(settings):
        raise InputError(complaint)
    return settings


def _cores() -> int:
    """Cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _complaints(settings: Settings) -> list[str]:
    checks = {
        "videos is empty: name files, folders or .tar shards": bool(settings.videos),
        f"resolution is {settings.resolution}: give at least {SMALLEST_RESOLUTION} px": (
            settings.resolution >= SMALLEST_RESOLUTION
        ),
        f"workers is {settings.workers}: give a number of processes, or null for one a core": settings.workers >= 1,
        f"segments.shortest is {settings.shortest:g} s: two windows of {WINDOW_FRAMES} frames at {MODEL_FPS:g} frames "
        f"a second need at least {FEWEST_SECONDS:g} s": settings.shortest >= FEWEST_SECONDS,
        f"segments.longest is {settings.longest:g} s, less than segments.shortest ({settings.shortest:g} s): make it "
        "longer": settings.longest >= settings.shortest,
        f"sync.reach is {settings.reach}: give frames to either side, at least 1": settings.reach >= 1,
        f"split.validation is {settings.validation:g}: give a share of the speakers from 0 to below 1": (
            0 <= settings.validation < 1
        ),
    }
    return [complaint for complaint, fine in checks.items() if not fine] + list(
        filter(None, [settings.visual.complaint()])
    )


def fingerprints(settings: Settings) -> dict[str, str]:
    """For each stage a short hash of all that its results hang on beside the content: its options and revision, and
    those of the stages before it. CheckpointError where a critic or an encoder is not there."""
    encoder = settings.audio_encoder and _weights(locate(settings.audio_encoder, WHISPER_FILE))
    options: dict[str, Any] = {
        "track": [settings.resolution, settings.shortest],
        "sync": [settings.critic and _weights(locate(settings.critic, SYNCNET_FILE)), settings.reach],
        "features": encoder,
    }
    found: dict[str, str] = {}
    for stage, revision in REVISIONS.items():
        facts = json.dumps([found.get(BUILT_ON.get(stage, "")), stage, revision, options.get(stage)])
        found[stage] = hashlib.sha256(facts.encode()).hexdigest()[:FINGERPRINT]
    return found


def _weights(path: Path) -> str:
    """Hash of a file, or of all files of a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return hashlib.sha256("".join(sha256_file(file) for file in files).encode()).hexdigest()
