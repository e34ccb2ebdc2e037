"""Tables that people write: .csv and .tsv files whose first line names the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from latentsync.types import InputError

DELIMITERS = {".tsv": "\t", ".csv": ","}


def is_table(path: Path) -> bool:
    """Whether there is a file that is named as a table."""
    return path.suffix.lower() in DELIMITERS and path.is_file()


def read_rows(path: Path, columns: Sequence[str], needed: int) -> Iterator[tuple[str, list[str]]]:
    """(place, its values in the order of `columns`, "" where there is none) of every row; places are for messages.

    needed: how many of the columns, from the first on, must have a name in the first line. InputError where one has
    none.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter=DELIMITERS[path.suffix.lower()])
        missing = [name for name in columns[:needed] if name not in (rows.fieldnames or ())]
        if missing:
            wanted = " and ".join(columns[:needed])
            raise InputError(f"'{path}' has no column {missing[0]}: its first line must name {wanted}")
        for row in rows:
            yield f"'{path}', line {rows.line_num}", [(row.get(name) or "").strip() for name in columns]
