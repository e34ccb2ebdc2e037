"""The report of a preparation: how many fell at each stage and why, in JSON, in lines for people and as a picture."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latentsync.data.manifest import ManifestEntry
from latentsync.data.preparation.outcome import COPY, DEFECT, Outcome
from latentsync.data.preparation.picture import draw_report
from latentsync.data.preparation.probe import NO_SOUND
from latentsync.data.preparation.settings import STAGES, Settings
from latentsync.data.preparation.speakers import BY_FILE, VALIDATION
from latentsync.data.preparation.store import UNREADABLE, write_whole

COUNTED = {"track": "segments", "sync": "segments", "quality": "segments", "features": "segments", "segments": "scenes"}
FEW_SPEAKERS = 1
NAMED_REASONS = 3  # in one line
HOUR = 3600  # seconds
SHORTER = "shorter than"  # as the reason begins that names the length
REMEDIES = {
    UNREADABLE: "the report says why for each; check that they play, or export them again",
    DEFECT: "the report names the error; tell it to the authors, and run the command again once it is mended",
    "not in the table of speakers": "add their rows to the table, or give speakers=folder or speakers=file",
    NO_SOUND: "give videos with the sound of the speech in them",
    "damaged pictures": "copy or export these videos again",
    "too few pictures a second": "give videos of 15 pictures a second or more",
    "the picture stands still": "give videos in which the face moves all the time",
    SHORTER: "give longer shots without cuts, or make segments.shortest smaller",
    "no face": "give videos in which a face is seen from the front and is not too small",
    "face lost": "give videos in which one face stays in sight, or make segments.shortest smaller",
    "nobody is heard speaking": "give videos of people who speak, with little else to be heard",
    "offset out of reach": "put sound and pictures in step, or make sync.reach larger",
    "confidence of the sync too small": "make sync.smallest_confidence smaller, or give videos whose speaker is seen",
    "quality too small": "make quality.smallest smaller, or give sharper and better lit videos",
}


@dataclass(frozen=True)
class StageCount:
    """One stage: what came to it, what it left out and why, and the CPU seconds of computing it."""

    stage: str
    unit: str  # videos, scenes or segments
    entered: int
    dropped: dict[str, int]  # by reason, most frequent first
    cpu_seconds: float


@dataclass(frozen=True)
class Report:
    """What became of everything."""

    path: Path
    stages: tuple[StageCount, ...]
    clips: dict[str, int]  # by split
    hours: float
    speakers: dict[str, int]  # by split
    notices: tuple[str, ...]  # what a user should know before training
    defects: tuple[str, ...]  # errors of the program

    def lines(self) -> list[str]:
        """For people."""
        told = [
            f"{count.stage:9} {count.entered:6} {count.unit:8} {count.cpu_seconds:8.1f} s  {_reasons(count.dropped)}"
            for count in self.stages
        ]
        clips = ", ".join(f"{number} {split}" for split, number in self.clips.items()) or "none"
        told.append(f"clips: {clips}; {self.hours:.2f} hours, {sum(self.speakers.values())} speaker(s)")
        return [*told, *(f"note: {notice}" for notice in self.notices), *(f"defect: {told}" for told in self.defects)]

    def summary_of_drops(self) -> str:
        """Where most fell and what to do about the first reason there, in one line."""
        fell = {count.stage: {why: n for why, n in count.dropped.items() if why != COPY} for count in self.stages}
        worst = max(fell, key=lambda stage: sum(fell[stage].values()))
        if not fell[worst]:
            return "they hold no video: give shards that do"
        return f"most fell at stage {worst} ({_reasons(fell[worst])}): {remedy(next(iter(fell[worst])))}"


def remedy(reason: str) -> str:
    """What to do where most is dropped for that reason."""
    return REMEDIES[SHORTER if reason.startswith(SHORTER) else reason]


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in list(dropped.items())[:NAMED_REASONS])


def make_report(settings: Settings, outcome: Outcome, entries: Sequence[ManifestEntry]) -> Report:
    """Count."""
    dropped: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for drop in outcome.drops:
        dropped[drop.stage][drop.reason] += 1
    stages = tuple(
        StageCount(
            stage,
            COUNTED.get(stage, "videos"),
            outcome.entered[stage],
            dict(dropped[stage].most_common()),
            round(outcome.seconds[stage], 2),
        )
        for stage in STAGES
    )
    speakers = {(entry.split, entry.speaker) for entry in entries}
    return Report(
        path=settings.folder / "report.json",
        stages=stages,
        clips=dict(Counter(entry.split for entry in entries)),
        hours=round(sum(entry.end - entry.start for entry in entries) / HOUR, 4),
        speakers=dict(Counter(split for split, _ in speakers)),
        notices=tuple(_notices(settings, entries)),
        defects=tuple(outcome.defects),
    )


def _notices(settings: Settings, entries: Sequence[ManifestEntry]) -> list[str]:
    speakers = {entry.speaker for entry in entries}
    notices = []
    if entries and settings.critic is None:
        notices.append(
            "offsets and confidences are a simple estimate from lips and loudness, which moves few clips and drops "
            "none by itself: give a StableSyncNet as sync.critic where you have one"
        )
    if len(speakers) == FEW_SPEAKERS:
        notices.append(
            f"every clip is of one speaker ({entries[0].speaker!r}): there are no pairs across speakers, and no "
            f"speaker can be held out; add other speakers, or hold out whole files with speakers={BY_FILE}"
        )
    elif entries and settings.validation > 0 and all(entry.split != VALIDATION for entry in entries):
        notices.append(
            f"none of {len(speakers)} speakers was drawn for validation: raise split.validation "
            f"({settings.validation:g}) or change split.seed ({settings.seed})"
        )
    elif entries and all(entry.split == VALIDATION for entry in entries):
        notices.append(
            f"all {len(speakers)} speakers are held out for validation, so that there is nothing to train on: lower "
            f"split.validation ({settings.validation:g}) or change split.seed ({settings.seed})"
        )
    return notices


def write_report(report: Report, settings: Settings, outcome: Outcome, entries: Sequence[ManifestEntry]) -> None:
    """report.json, with everything that was dropped, and report.png beside it."""
    content: dict[str, Any] = {**asdict(report), "path": str(report.path)}
    content["dropped"] = [asdict(drop) for drop in outcome.drops]
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_whole(report.path, lambda file: file.write_text(text, encoding="utf-8"))
    reasons = [
        (f"{count.stage}: {reason}", number) for count in report.stages for reason, number in count.dropped.items()
    ]
    measured = [drop.measured for drop in outcome.drops]
    limits = {"confidence": settings.smallest_confidence, "quality": settings.smallest_quality}
    write_whole(report.path.with_suffix(".png"), lambda file: draw_report(file, reasons, entries, measured, limits))
