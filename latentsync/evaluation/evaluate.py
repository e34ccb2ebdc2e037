"""Measures dubs between doing nothing and the truth: the rows of every item, and their means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentsync.evaluation.articulation import Spread, spread
from latentsync.evaluation.families import articulation, cost, silence, sync
from latentsync.evaluation.families.distribution import Distributions, FaceFeatures
from latentsync.evaluation.families.identity import Likeness
from latentsync.evaluation.families.pictures import watch
from latentsync.evaluation.families.quality import PictureQuality
from latentsync.evaluation.families.stability import Stability
from latentsync.evaluation.instruments import Instruments
from latentsync.evaluation.items import GIVEN, RECONSTRUCTION, SETTINGS, SILENT, Item
from latentsync.evaluation.material import Material, Take, note_lengths
from latentsync.evaluation.registry import METRICS, POOLED, Figures, Missing, all_missing
from latentsync.evaluation.timing import compared, offset_between
from latentsync.types import MODEL_FPS, InputError

TRUTH, NOTHING, DUB = "ground truth", "nothing done", "dubbed"
ROWS = (TRUTH, NOTHING, DUB)
OWN_AGREEMENT = 0.9  # of two waveforms, from which they are one recording
NO_ROW = {TRUTH: "give --truth, or a --source with sound of its own", NOTHING: "give --source"}
NOT_DUBBED = "this row was not dubbed"


@dataclass(frozen=True)
class Measured:
    """One item with its rows. A row that cannot be is there all the same, with the reason in every figure."""

    item: Item
    takes: Mapping[str, Take]  # the rows that can be
    rows: Mapping[str, Figures]
    offsets: Mapping[str, Any]  # frames, (windows,) by critic, of the dub
    stages: Mapping[str, float]  # seconds a second of video, where the dub's report is there
    notes: Sequence[str]


@dataclass(frozen=True)
class Evaluation:
    """All items in order, with means over them and what could not be measured at all."""

    measured: Sequence[Measured]
    pooled: Mapping[tuple[str, str], Figures]  # by setting and row: figures of all items together
    errors: Mapping[str, str]  # by item: why it was left out
    instruments: Instruments

    @property
    def groups(self) -> list[tuple[str, str]]:
        """Settings and rows that there are, in the order of tables."""
        settings = {found.item.setting for found in self.measured}
        return [(setting, row) for setting in SETTINGS if setting in settings for row in ROWS]

    def summary(self, group: tuple[str, str]) -> dict[str, Spread]:
        """Mean and interval of every figure of a setting's row over its items; pooled ones have one value."""
        setting, row = group
        found = {}
        for metric in METRICS:
            if metric.key in POOLED:
                values = [self.pooled[group][metric.key]]
            else:
                values = [one.rows[row][metric.key] for one in self.measured if one.item.setting == setting]
            found[metric.key] = spread([float("nan") if isinstance(v, Missing) else v for v in values])
        return found


def evaluate(items: Iterable[Item], instruments: Instruments | None = None) -> Evaluation:
    """Measure every item. The order of `items` changes nothing.

    An item that cannot be measured is left out and named, unless it is the only one. InputError: none can be measured.
    """
    instruments = instruments or Instruments()
    ordered, measured, errors = sorted(items, key=lambda item: item.order), [], {}
    distributions = Distributions(instruments.inception, instruments.video)
    for item in ordered:
        try:
            measured.append(measure_item(item, instruments, distributions))
        except InputError as error:
            if len(ordered) == 1:
                raise
            name = f"{item.name} ({item.setting})"
            errors[name] = f"{errors[name]}; {error}" if name in errors else str(error)  # files of one name
    if not measured:
        raise InputError(f"none of {len(ordered)} dubs can be measured; the first: {next(iter(errors.values()), '')}")
    groups = {(one.item.setting, row) for one in measured for row in ROWS}
    pooled = {group: distributions.figures(" ".join(group)) for group in groups}
    return Evaluation(measured, pooled, errors, instruments)


def measure_item(item: Item, instruments: Instruments, distributions: Distributions) -> Measured:
    """The rows of one item. InputError: no face in the dub, no sound, a file that cannot be read."""
    material = Material(item)
    takes = takes_of(item, material)
    note_lengths(takes[DUB])
    report = None if item.dub_report is None else cost.read_report(item.dub_report)
    rows: dict[str, Figures] = {}
    heard = {}
    for row in ROWS:
        if row in takes:
            heard[row] = sync.measure(takes[row], instruments.critics)
            rows[row] = measure_take(takes[row], heard[row].figures, instruments, distributions, report)
        else:
            rows[row] = {metric.key: Missing(NO_ROW[row]) for metric in METRICS if metric.key not in POOLED}
    stages = {} if report is None else cost.stages(report)
    return Measured(takes[DUB].item, takes, rows, heard[DUB].offsets, stages, tuple(material.notes))


def measure_take(
    take: Take,
    sync_figures: Figures,
    instruments: Instruments,
    distributions: Distributions,
    report: dict[str, Any] | None = None,
) -> Figures:
    """Every figure of one row, in the registry's order. report: of the dub; where its windows meet is looked at in all
    rows, what it cost is told of the dub alone."""
    watchers = [
        Likeness(take, instruments.identity),
        PictureQuality(take, instruments.lpips),
        Stability(take, report),
        FaceFeatures(take, f"{take.item.setting} {take.row}", distributions),
    ]
    figures = {
        **sync_figures,
        **articulation.measure(take),
        **silence.measure(take),
        **watch(take, watchers),
        **(cost.measure(report) if take.row == DUB else all_missing("cost", NOT_DUBBED)),
    }
    return {metric.key: figures[metric.key] for metric in METRICS if metric.key not in POOLED}


def takes_of(item: Item, material: Material) -> dict[str, Take]:
    """The rows of an item that can be: the dub, the source under the same audio, and the truth, or the source with its
    own sound where no truth is known."""
    audio = _audio(item, material)
    material.ticks = len(material.track(item.dubbed).times)
    own = is_own_audio(item, audio, material)
    right = item.truth or (item.source if own else None)
    speaker = right or _speaker(audio, item, material)
    if own and item.setting == GIVEN:
        item = replace(item, setting=RECONSTRUCTION)
    takes = {DUB: Take(DUB, item, item.dubbed, audio, item.source, right, speaker, material)}
    if item.source is not None:
        takes[NOTHING] = Take(NOTHING, item, item.source, audio, item.source, right, speaker, material)
    if item.truth is not None:
        takes[TRUTH] = Take(TRUTH, item, item.truth, audio, item.source, item.truth, item.truth, material)
    elif item.source is not None and material.info(item.source).has_audio:
        alone = replace(item, setting=RECONSTRUCTION, phonemes=(), words=())
        takes[TRUTH] = Take(TRUTH, alone, item.source, item.source, item.source, item.source, item.source, material)
        material.note("no truth was given: the row ground truth is the source with its own sound")
    return takes


def _audio(item: Item, material: Material) -> Path:
    if item.audio is not None:
        material.sound(item.audio)
        return item.audio
    if not material.info(item.dubbed).has_audio:
        raise InputError(f"'{item.dubbed}' has no sound: give --audio, what it was to speak")
    material.note(f"no audio was given: {item.dubbed.name} is measured against its own sound")
    return item.dubbed


def is_own_audio(item: Item, audio: Path, material: Material) -> bool:
    """Whether the audio is the source's own sound, so that the source is the right answer."""
    if item.source is None or item.setting == SILENT:
        return False
    if item.setting == RECONSTRUCTION or audio == item.source:
        return True
    if not material.info(item.source).has_audio:
        return False
    tracks = compared(material.sound(audio)), compared(material.sound(item.source))
    if not all(track.any() for track in tracks):
        return False
    found = offset_between(*tracks)
    return found.agreement > OWN_AGREEMENT and abs(found.seconds) < 1 / MODEL_FPS


def _speaker(audio: Path, item: Item, material: Material) -> Path | None:
    """The audio's own video, where it shows the face of who speaks."""
    if audio in (item.dubbed, item.source):
        return None
    try:
        material.mouths(audio)
    except InputError:
        return None  # sound alone, or a picture without a face: nothing shows how this speech is spoken
    return audio
