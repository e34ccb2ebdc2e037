"""Where a result goes: checks before any work, a private temporary file, an atomic rename, leftovers of dead jobs."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import av

from latentsync.types import InputError

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}  # suffix -> libav muxer
MAX_NAME_BYTES = 180  # of a target's name inside its temporary's name; file systems end at 255
OLD = 24 * 3600  # seconds without a write after which what another machine left counts as left
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def muxer_of(path: Path) -> str:
    """The container by suffix; InputError names the four that are known."""
    muxer = CONTAINERS.get(path.suffix.lower())
    if muxer is None:
        found = f"the suffix '{path.suffix}'" if path.suffix else "no suffix"
        raise InputError(f"The output '{path}' has {found}; name it .mp4, .mov, .mkv or .webm.")
    return muxer


def check_output(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str] | None]) -> None:
    """Raise InputError when `path` cannot be written or is one of the inputs, also by another name of the same file."""
    path = Path(path)
    muxer_of(path)
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"The output folder '{folder}' does not exist; make it first or choose another.")
    if path.is_dir():
        raise InputError(f"The output '{path}' is a folder; give a file name inside it.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The output folder '{folder}' cannot be written; check its permissions or choose another.")
    for source in inputs:
        if source is not None and path.exists() and os.path.exists(source) and os.path.samefile(path, source):
            raise InputError(f"The output '{path}' is the same file as the input '{source}'; choose another name.")


class PrivateFile:
    """A temporary beside its target that only this job writes: `.NAME.<machine>-<pid>-<random>.partial.EXT`.

    Temporaries that dead jobs left for the same target are removed first; those of living jobs stay. Whether a job of
    another machine that shares the disk lives cannot be told: its temporary goes when it was not written for a day.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        remove_leftovers(target)
        name = f".{_label(target)}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}.partial{target.suffix}"
        self.path = target.parent / name

    def publish(self) -> None:
        """Give the finished file its name, in one step."""
        os.replace(self.path, self.target)

    def remove(self) -> None:
        """Drop the file; nothing happens when it never came to be."""
        self.path.unlink(missing_ok=True)


def remove_leftovers(target: Path) -> None:
    """Delete temporaries for `target` whose process has ended."""
    ends = r"([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.partial"
    pattern = re.compile(re.escape(f".{_label(target)}.") + ends + re.escape(target.suffix))
    for name in _names(target.parent):
        match, path = pattern.fullmatch(name), target.parent / name
        with suppress(OSError):  # another job may have removed it first
            if match and not (_alive(int(match[2])) if match[1] == machine() else _fresh(path)):
                path.unlink()


@cache
def machine() -> str:
    """8 hexadecimal digits that tell machines, and containers, on a shared disk apart."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def write_failure(target: Path, error: OSError | av.FFmpegError) -> InputError:
    """The sentence for a failed write."""
    if error.errno in DISK_FULL:
        what = f"The disk of '{target.parent}' is full: '{target.name}' could not be finished"
        return InputError(f"{what}; free some space and run again.")
    reason = error.strerror or str(error)
    return InputError(f"'{target}' could not be written ({reason}); check the folder and try again.")


def _label(target: Path) -> str:
    name = os.fsencode(target.name)
    return target.name if len(name) <= MAX_NAME_BYTES else hashlib.sha256(name).hexdigest()[:32]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # a folder may be writable without being listable
        return []


def _fresh(path: Path) -> bool:
    return time.time() - path.stat().st_mtime < OLD


def _alive(pid: int) -> bool:
    if os.name == "nt":
        return False  # Windows refuses to delete a file that a living process has open
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
