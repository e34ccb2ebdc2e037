"""What a preparation knows of each source in the end: clips that are ready, what was dropped where and why, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

OPEN = "open"  # the stage before all others
DEFECT = "a defect of the program"
COPY = "the same content as another file"


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
    """All of one source, or of all of them together."""

    source: str = ""
    sha256: str = ""
    clips: list[FinishedClip] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    entered: Counter[str] = field(default_factory=Counter)  # videos or segments that came to a stage
    seconds: Counter[str] = field(default_factory=Counter)  # CPU seconds that a stage took when it was computed
    defects: list[str] = field(default_factory=list)  # errors that are none of the source's fault


def put_together(outcomes: Iterable[Outcome]) -> Outcome:
    """One outcome of all, in their order. Of several sources of one content the first counts, the others are drops."""
    whole, first = Outcome(), dict[str, str]()
    for outcome in outcomes:
        original = first.setdefault(outcome.sha256 or outcome.source, outcome.source)
        if original == outcome.source:
            whole.clips += outcome.clips
            whole.drops += outcome.drops
            whole.defects += outcome.defects
            whole.entered += outcome.entered
            whole.seconds += outcome.seconds
        else:
            place = Place(outcome.source, outcome.sha256)
            whole.drops.append(Drop(place, OPEN, COPY, original))
            whole.entered[OPEN] += 1
    return whole


def failed_to_open(source: str, reason: str, detail: str) -> Outcome:
    """The outcome of a file or shard of which no more can be known."""
    return Outcome(source, drops=[Drop(Place(source, ""), OPEN, reason, detail)], entered=Counter([OPEN]))
