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
    """What no dub has a figure for, with the reasons, a line each."""
    lines: dict[str, list[str]] = {}
    for metric in METRICS:
        if metric.key in POOLED:
            found = [evaluation.pooled[group][metric.key] for group in evaluation.groups if group[1] == DUB]
        else:
            found = [one.rows[DUB][metric.key] for one in evaluation.measured]
        reasons = [value.reason for value in found if isinstance(value, Missing)]
        if len(reasons) == len(found):
            lines.setdefault("; ".join(dict.fromkeys(reasons)), []).append(metric.title)
    return [f"{', '.join(titles)}: {reason}" for reason, titles in lines.items()]


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
    for one in evaluation.measured:
        told += [f"{one.item.name} ({one.item.setting}): {note}" for note in (*one.notes, *_stages(one))]
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
