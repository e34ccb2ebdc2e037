"""What a preparation would do, told before it does anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from latentsync.data.preparation.chain import check_tools
from latentsync.data.preparation.settings import fingerprints, read_settings
from latentsync.data.preparation.sources import Shard, VideoFile, find_sources
from latentsync.media.probe import probe_video
from latentsync.types import MODEL_FPS, InputError

LOOKED_INTO = 32  # files whose header is read, evenly spread; the others count as these do
HOUR, GIB = 3600.0, 2**30


@dataclass(frozen=True)
class Plan:
    """An estimate; shards are counted, not opened."""

    files: int
    shards: int
    hours: float  # of the files
    unreadable: tuple[str, ...]  # of those that were looked into
    gib: float  # of crops, were every second of the files kept
    workers: int
    folder: Path

    def lines(self) -> list[str]:
        """For people."""
        told = [
            f"{self.files} video file(s), about {self.hours:.2f} hours, and {self.shards} shard(s) in {self.workers} "
            "process(es)",
            f"crops: at most {self.gib:.2f} GiB in {self.folder}, without those of the shards; nothing was written",
        ]
        return told + [f"would be dropped: {reason}" for reason in self.unreadable]


def plan_preparation(config: DictConfig) -> Plan:
    """Check everything that `prepare_data` checks and look into some of the files; write nothing. InputError as it."""
    settings = read_settings(config)
    found = find_sources(settings.videos)
    fingerprints(settings)
    check_tools(settings, found)
    files = [source for source in found if isinstance(source, VideoFile)]
    chosen = files[:: max(1, -(-len(files) // LOOKED_INTO))]
    seconds, unreadable = _lengths(chosen)
    hours = seconds / HOUR * len(files) / max(1, len(chosen))
    size = hours * HOUR * MODEL_FPS * settings.resolution**2 * 3 / GIB
    shards = sum(isinstance(source, Shard) for source in found)
    return Plan(len(files), shards, hours, tuple(unreadable), size, settings.workers, settings.folder)


def _lengths(files: Sequence[VideoFile]) -> tuple[float, list[str]]:
    """Seconds of all files together as their headers say, and what is wrong with those that have none."""
    seconds, unreadable = 0.0, []
    for file in files:
        try:
            seconds += probe_video(file.path).duration or 0.0
        except InputError as error:
            unreadable.append(str(error))
    return seconds, unreadable
