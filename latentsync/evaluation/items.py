"""What is evaluated: a dub with what belongs to it, alone or one a line of a manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from latentsync.config import unknown_key
from latentsync.faces.tracking import FaceChoice, parse_face
from latentsync.types import InputError

FILES = ("dubbed", "audio", "source", "truth", "dub_report")
TIMES = ("phonemes", "words")
SETTINGS = ("as given", "reconstruction", "cross", "silent audio", "noise")
GIVEN, RECONSTRUCTION, CROSS, SILENT, NOISE = SETTINGS
ALIGN = ".align"  # GRID's alignment files: start, stop and word a line
ALIGN_RATE = 25_000  # ticks a second in them


@dataclass(frozen=True)
class Said:
    """A sound (ARPAbet) or a word with its time in the audio."""

    text: str
    start: float  # seconds
    stop: float  # seconds


@dataclass(frozen=True)
class Item:
    """One dub. `audio`: what it was to speak, None: its own sound; `source`: what was dubbed; `truth`: the right
    answer, pixel by pixel; `dub_report`: JSON that `latentsync dub --report` wrote; `face`: whose mouth was dubbed, a
    place by size (None: the largest) or a point (x, y) px; `setting`: one of SETTINGS."""

    dubbed: Path
    audio: Path | None = None
    source: Path | None = None
    truth: Path | None = None
    dub_report: Path | None = None
    phonemes: tuple[Said, ...] = ()
    words: tuple[Said, ...] = ()
    face: FaceChoice = None
    setting: str = GIVEN
    name: str = ""

    def __post_init__(self) -> None:
        if self.setting not in SETTINGS:
            raise InputError(f"setting is {self.setting!r}; give one of {', '.join(SETTINGS)}.")
        for field in FILES:
            path = getattr(self, field)
            if path is not None and not Path(path).is_file():
                raise InputError(f"the {field.replace('_', ' ')} '{path}' is not a file; check its path.")
        object.__setattr__(self, "name", self.name or self.dubbed.stem)
        object.__setattr__(self, "face", parse_face(self.face))

    @property
    def order(self) -> tuple[str, ...]:
        """Items are measured and told in this order, whatever that of the manifest."""
        return (str(SETTINGS.index(self.setting)), self.name, *(str(getattr(self, field)) for field in FILES))


def read_items(path: Path) -> list[Item]:
    """Read a manifest: one JSON object a line with the fields of `Item`; relative paths start at its folder.

    phonemes, words: a list of [text, start, stop] (seconds), or a file as for `read_times`.
    InputError names the line of what is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the manifest '{path}' cannot be read ({error}): give a file of JSON lines") from error
    items = [_item(path, f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise InputError(f"the manifest '{path}' is empty: write one JSON object with `dubbed` a line")
    return items


def _item(path: Path, where: str, line: str) -> Item:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not a JSON object ({error.msg}); write one object a line") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("dubbed"), str):
        raise InputError(f"{where}: 'dubbed' is missing; write {{'dubbed': ..., 'audio': ..., 'source': ...}}")
    known = [field.name for field in fields(Item)]
    for key, value in entry.items():
        if key not in known:
            raise unknown_key(key, known, where)
        if key in (*FILES, "name", "setting") and not isinstance(value, str):
            raise InputError(f"{where}: {key} is {value!r}, which is no text; give one")
    try:
        return Item(**{key: _value(path.parent, key, value) for key, value in entry.items()})
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _value(folder: Path, key: str, value: Any) -> Any:
    if key in FILES:
        return folder / value
    if key in TIMES:
        return read_times(folder / value) if isinstance(value, str) else _times(value, key)
    return value


def read_times(path: Path) -> tuple[Said, ...]:
    """Sounds or words with times: a JSON list of [text, start, stop] in seconds, a truth.json of the counterfactual
    set (what is to be said), or one of GRID's `.align` files. InputError where it is none of these."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ALIGN:
            rows = [line.split() for line in text.splitlines() if line.strip()]
            return tuple(Said(word, int(start) / ALIGN_RATE, int(stop) / ALIGN_RATE) for start, stop, word in rows)
        content = json.loads(text)
        content = content["truth"]["phoneme_times"] if isinstance(content, Mapping) else content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' holds no times of words or sounds ({error!r}): give JSON or .align") from error
    return _times(content, str(path))


def _times(value: Any, where: str) -> tuple[Said, ...]:
    try:
        return tuple(Said(str(text), float(start), float(stop)) for text, start, stop in value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: times must be a list of [text, start, stop] in seconds ({error})") from error
