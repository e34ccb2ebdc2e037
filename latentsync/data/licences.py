"""Which licence the sources of a training's clips have, as a table says that a person wrote; nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from latentsync.data.tables import is_table, read_rows
from latentsync.types import InputError

COLUMNS = ("source", "licence", "origin")  # of a table; the last one may be absent
NEEDED = 2  # of them
BESIDE_MANIFEST = ("licences.tsv", "licences.csv")


@dataclass(frozen=True)
class Licence:
    """One row: which sources, under which licence, and where they are from, as people are to read it."""

    pattern: str  # matches a source's whole name, its file's name with or without suffix, or one of its folders
    licence: str
    origin: str = ""

    @property
    def name(self) -> str:
        """What the card calls these sources."""
        return self.origin or self.pattern

    def covers(self, source: str) -> bool:
        """source: as the manifest names it (a path, or SHARD.tar::NAME), or the name of a clip."""
        names = {source}
        for part in source.split("::"):
            path = PurePath(part)
            names |= {*path.parts, path.stem}
        return any(fnmatchcase(name, self.pattern) for name in names)


def read_licences(path: Path) -> tuple[Licence, ...]:
    """A .tsv or .csv table with the columns source and licence, and origin where wanted.

    A source is a pattern as of file names, e.g. `grid_*`. InputError for anything else, and for an empty place.
    """
    if not is_table(path):
        raise InputError(f"'{path}' is no .tsv or .csv table that is there: write one with the columns source, licence")
    return tuple(_rows(path))


def _rows(path: Path) -> Iterator[Licence]:
    for where, (pattern, licence, origin) in read_rows(path, COLUMNS, NEEDED):
        if not pattern or not licence:
            raise InputError(f"{where}: source or licence is empty; leave the row out where the licence is not known")
        yield Licence(pattern, licence, origin)


def licence_of(source: str, table: Iterable[Licence]) -> Licence | None:
    """The first row that covers a source; None: its licence is not stated."""
    return next((row for row in table if row.covers(source)), None)
