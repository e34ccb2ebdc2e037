"""The three files of an evaluation."""

from __future__ import annotations

from pathlib import Path

from latentsync.data.preparation.store import write_whole
from latentsync.evaluation.evaluate import Evaluation
from latentsync.evaluation.report.content import as_json
from latentsync.evaluation.report.html import html
from latentsync.evaluation.report.tables import markdown

NAME = "evaluation"


def write_files(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write evaluation.json, .md and .html into `folder`, which is made, each whole or not at all."""
    written = []
    for suffix, text in ((".json", as_json), (".md", markdown), (".html", html)):
        content = text(evaluation)
        written.append(folder / f"{NAME}{suffix}")
        write_whole(written[-1], lambda file, content=content: file.write_text(content, encoding="utf-8"))
    return written
