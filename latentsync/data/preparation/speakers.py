"""Who speaks in a video, and which speakers are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from latentsync.data.preparation.store import Dropped
from latentsync.data.tables import is_table, read_rows
from latentsync.types import InputError

TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)
BY_FOLDER, BY_FILE = "folder", "file"
COLUMNS = ("file", "speaker", "split")  # of a table; the last one may be absent
NEEDED = 2  # of them


class Speakers:
    """The rule that names the speaker of a video."""

    def __init__(self, rule: str) -> None:
        """rule: `folder`, the first folder below the one that was given (which names it where there is none); `file`,
        every file is a speaker; or a .tsv or .csv table with the columns file and speaker, and split where wanted: it
        counts for all files of the speaker. A file is its path, or its bare name, see `check`. InputError otherwise."""
        self._rule = rule
        self._table = None if rule in (BY_FOLDER, BY_FILE) else _read_table(Path(rule))

    def of(self, name: str, place: str, facts: Mapping[str, Any]) -> tuple[str, str]:
        """(speaker, split or "") of a video.

        name: its path below the folder or inside the shard; place: the folder's or shard's own name; facts: what the
        JSON beside it says, whose `speaker` goes before the rule's. Dropped where a table does not name the video.
        """
        path = PurePosixPath(name)
        if self._table is not None:
            row = self._row_of(name)
            if row is None:
                raise Dropped("not in the table of speakers", f"{name} is not in {self._rule}")
            return self._table[row]
        if facts.get("speaker"):
            return str(facts["speaker"]), ""
        if self._rule == BY_FILE:
            return str(path.with_suffix("")), ""
        return path.parts[0] if len(path.parts) > 1 else place, ""

    def check(self, videos: Mapping[str, str]) -> None:
        """InputError where one row of a table stands for two of the videos of a run. videos: as the manifest names
        them -> name, see `of`."""
        answered: dict[str, str] = {}
        for label, name in videos.items():
            row = self._row_of(name)
            if row is not None and answered.setdefault(row, label) != label:
                raise InputError(
                    f"'{self._rule}' lists '{row}', which may be '{answered[row]}' or '{label}': write their folders "
                    "in front of their names, from below a folder that holds both and is given as videos"
                )

    def _row_of(self, name: str) -> str | None:
        """What a table calls the video: its path, or its bare name, which `check` finds to be no other's."""
        return next((row for row in (name, PurePosixPath(name).name) if row in (self._table or {})), None)


def _read_table(path: Path) -> dict[str, tuple[str, str]]:
    if not is_table(path):
        raise InputError(
            f"speakers is '{path}', neither {BY_FOLDER} nor {BY_FILE} nor a .tsv or .csv table that is there: give one"
        )
    rows: dict[str, tuple[str, str]] = {}
    for where, values in read_rows(path, COLUMNS, NEEDED):
        file, answer = _row(values, where)
        if rows.setdefault(file, answer) != answer:
            both = " and ".join(", ".join(filter(None, said)) for said in (rows[file], answer))
            raise InputError(f"{where}: '{file}' is listed twice, as {both}: leave one of the rows")
    splits: dict[str, str] = {}
    for speaker, split in rows.values():
        if split and splits.setdefault(speaker, split) != split:
            raise InputError(
                f"'{path}' has files of {speaker!r} in both splits, so that nobody is held out: write one split for "
                "each speaker"
            )
    return {file: (speaker, splits.get(speaker, "")) for file, (speaker, _) in rows.items()}


def _row(values: Sequence[str], where: str) -> tuple[str, tuple[str, str]]:
    file, speaker, split = values
    if not file or not speaker:
        raise InputError(f"{where}: file or speaker is empty; fill in both")
    if split not in ("", *SPLITS):
        raise InputError(f"{where}: split is {split!r}; write {' or '.join(SPLITS)}, or nothing")
    return file, (speaker, split)


def draw_split(speaker: str, share: float, seed: int) -> str:
    """train or validation, a function of the speaker's name and the seed alone: other speakers do not move this one.

    share: of the speakers that are held out, on average.
    """
    digest = hashlib.sha256(f"{seed}:{speaker}".encode()).digest()
    return VALIDATION if int.from_bytes(digest[:8], "big") < share * 2**64 else TRAIN
