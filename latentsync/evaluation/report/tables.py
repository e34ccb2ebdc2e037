"""The tables: one a family, rows from the truth to doing nothing to the dub, for every setting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from latentsync.evaluation.articulation import Spread
from latentsync.evaluation.evaluate import DUB, Evaluation, Measured
from latentsync.evaluation.families.sync import KEYS, TITLES
from latentsync.evaluation.registry import FAMILIES, METRICS, POOLED, Metric, Missing, of_family

NO_FIGURE = "–"
TRAINED = "†"
ARROWS = {"higher": "↑", "lower": "↓", "nearest 0": "→ 0", "nearest 1": "→ 1", "as the truth's": "≈"}


@dataclass(frozen=True)
class Table:
    """Texts."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(evaluation: Evaluation) -> list[Table]:
    """One a family. A figure that no row has gets no column: `missing` tells why."""
    return [table for family in FAMILIES if (table := _table(evaluation, family)).header[3:]]


def _table(evaluation: Evaluation, family: str) -> Table:
    summaries = {group: evaluation.summary(group) for group in evaluation.groups}
    shown = [m for m in of_family(family) if any(found[m.key].count for found in summaries.values())]
    header = ["audio", "row", "clips", *(heading(metric, evaluation.instruments.trained_with) for metric in shown)]
    rows = []
    for (setting, row), found in summaries.items():
        clips = sum(one.item.setting == setting for one in evaluation.measured)
        rows.append([setting, row, str(clips), *(cell(found[metric.key], metric.digits) for metric in shown)])
    return Table(family, header, rows)


def heading(metric: Metric, trained_with: frozenset[str]) -> str:
    """A column's title with the better direction, marked where the model was trained with that critic."""
    mark = f" {TRAINED}" if any(metric.key in KEYS.get(critic, ()) for critic in trained_with) else ""
    return f"{metric.title} {ARROWS[metric.direction]}{mark}"


def cell(found: Spread, digits: int) -> str:
    """A value; over several clips the mean with its 95 % interval, and how many clips lack it."""
    if not found.count:
        return NO_FIGURE
    if found.count == 1:
        return f"{found.mean:.{digits}f}"
    lacking = f" ({found.missing} without)" if found.missing else ""
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]{lacking}"


def missing(evaluation: Evaluation) -> list[str]:
    """What no dub has a figure for, with the reasons, a line each; where these differ, of which settings."""
    lines: dict[str, list[str]] = {}
    for metric in METRICS:
        if metric.key in POOLED:
            found = [(group[0], evaluation.pooled[group][metric.key]) for group in evaluation.groups if group[1] == DUB]
        else:
            found = [(one.item.setting, one.rows[DUB][metric.key]) for one in evaluation.measured]
        reasons = [(value.reason, setting) for setting, value in found if isinstance(value, Missing)]
        if len(reasons) == len(found):
            lines.setdefault(_told(reasons), []).append(metric.title)
    return [f"{'; '.join(titles)}: {reasons}" for reasons, titles in lines.items()]


def _told(said: Iterable[tuple[str, str]]) -> str:
    """(text, whom it is of) pairs in a line: every text once, and whom it is of where there is more than one."""
    those: dict[str, dict[str, None]] = {}
    for text, whose in said:
        those.setdefault(text, {})[whose] = None
    if len(those) == 1:
        return next(iter(those))
    return "; ".join(f"{text} ({', '.join(whose)})" for text, whose in those.items())


def remarks(evaluation: Evaluation) -> list[str]:
    """What a reader must know: how rows are made, which critic is no judge, what was odd, what was left out."""
    told = [
        "Rows: ground truth is the right answer (or, where none is known, the source with its own sound); nothing done "
        "is the source under the same audio. Several clips: mean [95 % interval].",
        "All figures are measured at 25 frames a second.",
        "Better: ↑ higher, ↓ lower, → 0 or → 1 nearest to that, ≈ as the truth's.",
    ]
    if any(not isinstance(value, Missing) for found in evaluation.pooled.values() for value in found.values()):
        told.append("FID and FVD grow where pictures are few: compare rows of this table, and no others.")
    for critic in sorted(evaluation.instruments.trained_with):
        told.append(f"{TRAINED} The model was trained with {TITLES[critic]}: what that says of it is no judgement.")
    noted: dict[str, list[str]] = {}
    for one in evaluation.measured:
        for note in (*one.notes, *_stages(one)):
            noted.setdefault(note, []).append(f"{one.item.name} ({one.item.setting})")
    told += [f"{', '.join(whose)}: {note}" for note, whose in noted.items()]
    return told + [f"Left out: {name}: {why}" for name, why in evaluation.errors.items()]


def _stages(one: Measured) -> list[str]:
    """What a dub's stages cost, in a line; nothing where its report was not given."""
    told = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in one.stages.items())
    return [f"seconds a second of video by stage, which run side by side: {told}"] if told else []


def markdown(evaluation: Evaluation) -> str:
    """The whole evaluation as text."""
    parts = ["# Evaluation\n"]
    parts += [f"## {table.title.capitalize()}\n\n{_lines([table.header, *table.rows])}" for table in tables(evaluation)]
    if lacking := missing(evaluation):
        parts.append("## Missing\n\n" + "".join(f"- {line}\n" for line in lacking))
    parts.append("## Remarks\n\n" + "".join(f"- {line}\n" for line in remarks(evaluation)))
    return "\n".join(parts)


def _lines(rows: Iterable[Sequence[str]]) -> str:
    header, *rest = rows
    every = [header, ["---"] * len(header), *rest]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |\n" for row in every)
