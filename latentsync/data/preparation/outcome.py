"""What a preparation knows of each source in the end: clips that are ready, what was dropped where and why, times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """A source or a part of it."""

    source: str
    sha256: str
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: all of it


@dataclass(frozen=True)
class Drop:
    """Something that was left out. measured: the figures that are known of it (offset, confidence, quality)."""

    place: Place
    stage: str
    reason: str
    detail: str
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FinishedClip:
    """A clip on disk; paths are relative to the folder of the preparation."""

    place: Place
    frames: int
    speaker: str
    split: str  # "" where it is to be drawn
    measured: dict[str, float]  # offset in frames, confidence, quality
    clip: str  # without suffix
    mel: str
    audio_features: str | None


@dataclass
class Outcome:
    """All of one source."""

    clips: list[FinishedClip] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    entered: Counter[str] = field(default_factory=Counter)  # videos or segments that came to a stage
    seconds: Counter[str] = field(default_factory=Counter)  # CPU seconds that a stage took when it was computed
    defects: list[str] = field(default_factory=list)  # errors that are none of the source's fault
