"""Results of stages on disk, one small JSON file for each stage and content: what is there is not done again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from latentsync.media.outputs import DISK_FULL, PrivateFile
from latentsync.types import InputError

UNREADABLE = "cannot be read"
DROPPED, DETAIL, FILES, SECONDS = "dropped", "detail", "files", "cpu_seconds"


class Dropped(InputError):
    """A video or a segment that is left out: `reason` is one of few that the report counts, the message says more."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Unwritable(InputError):
    """The machine does not let a result be kept, which is no fault of what it was made of."""


@dataclass(frozen=True)
class StageStore:
    """Where results lie: `stages/STAGE-FINGERPRINT/AB/KEY.json`, arrays beside them. A result is a function of its key
    (a hash of content) and of the fingerprint, so processes that write the same one do no harm."""

    folder: Path
    fingerprints: Mapping[str, str]

    def path(self, stage: str, key: str, suffix: str) -> Path:
        """File of one result, in a folder for the first two digits of the key."""
        return self.folder / "stages" / f"{stage}-{self.fingerprints[stage]}" / key[:2] / f"{key}{suffix}"

    def result(self, stage: str, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored result, or that of `compute`, which is stored with the CPU seconds it took.

        A result may name `files` relative to the folder; where one is gone, it is computed again. Where `compute`
        raises InputError, the result is {dropped: reason, detail: ...}. What the machine is to blame for is no result
        but raised, so that it is tried again: see `check_disk`, and InputError that an OSError was the cause of.
        """
        path = self.path(stage, key, ".json")
        stored = self._stored(path)
        if stored is None:
            started = time.process_time()
            try:
                value = compute()
            except InputError as error:
                check_disk(error)
                if any(map(_of_the_machine, _causes(error))):
                    raise
                drop = error if isinstance(error, Dropped) else Dropped(UNREADABLE, str(error))
                value = {DROPPED: drop.reason, DETAIL: drop.detail}
            stored = {**value, SECONDS: round(time.process_time() - started, 4)}
            text = json.dumps(stored, ensure_ascii=False)
            write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))
        return stored

    def _stored(self, path: Path) -> dict[str, Any] | None:
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # a machine that lost power may leave an empty file
            return None
        return stored if all((self.folder / name).exists() for name in stored.get(FILES, ())) else None


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a private file beside `path`, which then gets that name in one step; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    private = PrivateFile(path)
    try:
        write(private.path)
        private.publish()
    finally:
        private.remove()


def write_array(path: Path, array: np.ndarray) -> None:
    """An `.npy` file, whole or not at all."""
    write_whole(path, lambda file: np.save(file, array, allow_pickle=False))


def check_disk(error: BaseException) -> None:
    """A full disk or a cache that cannot be written says nothing about the content: OSError or Unwritable, and the run
    stops."""
    for cause in _causes(error):
        if isinstance(cause, Unwritable) or (isinstance(cause, OSError) and cause.errno in DISK_FULL):
            raise cause


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _of_the_machine(error: BaseException) -> bool:
    """libav's errors may be OSError too, and what a file holds causes them (EIO where it is cut off)."""
    return isinstance(error, OSError) and not isinstance(error, av.FFmpegError)
