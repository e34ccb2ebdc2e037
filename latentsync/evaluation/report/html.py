"""The report for eyes: one file that holds its pictures, and opens anywhere without a network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from latentsync.evaluation.evaluate import DUB, Evaluation, Measured
from latentsync.evaluation.registry import METRICS
from latentsync.evaluation.report.curves import draw_gaps, draw_offsets
from latentsync.evaluation.report.moments import draw_moments, worst_moments
from latentsync.evaluation.report.tables import Table, missing, remarks, tables

DRAWN = 24  # dubs that are shown in pictures; all are in the tables
GAPS = "Lip gaps over the waveform; shaded where nobody speaks, dotted where a moment is shown below."
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1e293b; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem } h3 { font-size: 1rem; margin-top: 1.8rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #e2e8f0; vertical-align: top }
tr.dubbed td { background: #fff7ed }
img { max-width: 100% } figure { display: inline-block; margin: 0 1rem 1rem 0 }
figcaption { font-size: .85rem; color: #475569 }
"""


def html(evaluation: Evaluation) -> str:
    """The whole evaluation as a page; pictures are inside it as data URIs."""
    shown = evaluation.measured[:DRAWN]
    body = [
        "<h1>Evaluation</h1>",
        *(_table(table) for table in tables(evaluation)),
        _list("Missing", missing(evaluation)),
        _list("Remarks", remarks(evaluation)),
        "<h2>Dubs</h2>",
        *(_dub(one) for one in shown),
    ]
    if len(shown) < len(evaluation.measured):
        body.append(f"<p>{len(evaluation.measured) - len(shown)} further dubs are in the tables alone.</p>")
    body.append(_metrics())
    head = f'<meta charset="utf-8"><title>Evaluation</title><style>{STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    title = escape(table.title.capitalize())
    return f"<h2>{title}</h2>\n{_rows(table.header, table.rows, mark=DUB)}"


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]], mark: str = "") -> str:
    lines = [_row(header, "th")]
    for row in rows:
        lines.append(_row(row, "td", ' class="dubbed"' if mark in row and mark else ""))
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _row(texts: Sequence[str], tag: str, kind: str = "") -> str:
    return f"<tr{kind}>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts) + "</tr>"


def _list(title: str, lines: Sequence[str]) -> str:
    return f"<h2>{title}</h2>\n<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _dub(one: Measured) -> str:
    """Curves, histogram and worst moments of one dub."""
    worst = worst_moments(one)
    parts = [f"<h3>{escape(one.item.name)} ({escape(one.item.setting)})</h3>"]
    parts.append(_picture("png", draw_gaps(one, worst), GAPS))
    if (histogram := draw_offsets(one.offsets)) is not None:
        parts.append(_picture("png", histogram, "How late each window of pictures heard its sound."))
    ticks, times = sorted(worst), one.takes[DUB].times
    for number, (tick, picture) in enumerate(zip(ticks, draw_moments(one, ticks), strict=True), 1):
        told = f"{number}: {times[tick]:.2f} s, {worst[tick]}. From the left: {_order(one)}."
        parts.append(_picture("jpeg", picture, told))
    return "\n".join(parts)


def _order(one: Measured) -> str:
    """What the pictures of a moment are, from the left."""
    take = one.takes[DUB]
    names = ["dub"] + (["source"] if take.source else [])
    return ", ".join([*names, "right answer"] if take.right not in (None, take.source) else names)


def _picture(kind: str, data: bytes, told: str) -> str:
    coded = base64.b64encode(data).decode()
    text = escape(told)
    return f'<figure><img alt="{text}" src="data:image/{kind};base64,{coded}"><figcaption>{text}</figcaption></figure>'


def _metrics() -> str:
    rows = [(m.title, m.key, m.direction, m.source, m.needs) for m in METRICS]
    return "<h2>Metrics</h2>\n" + _rows(("metric", "key", "better", "from", "needs"), rows)
