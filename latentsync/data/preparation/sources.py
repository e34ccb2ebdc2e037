"""Where videos come from: files and folders, and tar shards in webdataset's layout, read once from front to back."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any

from latentsync.data.preparation.outcome import OPEN
from latentsync.data.preparation.store import StageStore
from latentsync.media.containers import check_readable
from latentsync.types import InputError

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v")
SHARD_SUFFIX = ".tar"
COPIED_AT_ONCE = 1 << 22  # bytes


@dataclass(frozen=True)
class VideoFile:
    """A video in a folder, not opened yet. root: the folder that was given, or the file's own."""

    path: Path
    root: Path

    @property
    def name(self) -> str:
        """Its path below the root."""
        return self.path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Shard:
    """A tar file of videos, `KEY.mp4` with `KEY.json` beside it."""

    path: Path


@dataclass(frozen=True)
class Source:
    """One video that lies on disk, and what is known of it."""

    path: Path
    label: str  # as the manifest names it
    sha256: str
    name: str  # its path below the folder that was given, or inside the shard
    place: str  # that folder's or shard's own name
    note: bytes | None = None  # the JSON beside it, where there is one

    def facts(self) -> dict[str, Any]:
        """What the JSON beside the video says; InputError where it is not an object of JSON."""
        try:
            facts = json.loads(self.note) if self.note is not None else {}
        except ValueError as error:
            raise InputError(f"the JSON beside '{self.label}' cannot be read ({error}): write it again") from error
        if not isinstance(facts, dict):
            raise InputError(f"the JSON beside '{self.label}' is no object: write names and values")
        return facts


def find_sources(names: Iterable[str]) -> list[VideoFile | Shard]:
    """Videos and shards among the files and in the folders of these names, each once, in a fixed order.

    InputError for a name that is not there, and for a folder that holds none.
    """
    found: dict[Path, VideoFile | Shard] = {}
    for name in names:
        place = Path(name)
        if not place.exists():
            raise InputError(f"'{place}' does not exist: give video files, folders of them or {SHARD_SUFFIX} shards")
        inside = sorted(_wanted(place)) if place.is_dir() else [place]
        if not inside:
            raise InputError(
                f"'{place}' holds no video ({', '.join(VIDEO_SUFFIXES)}) and no {SHARD_SUFFIX} shard: give another"
            )
        root = place if place.is_dir() else place.parent
        for path in inside:
            source = Shard(path) if path.suffix == SHARD_SUFFIX else VideoFile(path, root)
            found.setdefault(path.resolve(), source)
    return list(found.values())


def _wanted(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in (*VIDEO_SUFFIXES, SHARD_SUFFIX) and path.is_file() and not hidden:
            yield path


def open_source(found: VideoFile | Shard, store: StageStore) -> Iterator[Source]:
    """The videos of one file or shard, with their content's hash. A shard's are copied one by one into a private folder
    and removed when the next is asked for. InputError where a shard is damaged, after what came before the damage."""
    if isinstance(found, Shard):
        with TemporaryDirectory(prefix="latentsync-") as spool:
            yield from _samples(found.path, Path(spool))
        return
    yield Source(found.path, str(found.path), _known_hash(found.path, store), found.name, found.root.resolve().name)


def _known_hash(path: Path, store: StageStore) -> str:
    """Hash of a file's content; one of the same path, size and time is not read again."""
    check_readable(path)
    state = path.stat()
    identity = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"

    def read() -> dict[str, str]:
        with path.open("rb") as file:
            return {"sha256": _hash(file)}

    return store.result(OPEN, hashlib.sha256(identity.encode()).hexdigest(), read)["sha256"]


def _samples(shard: Path, spool: Path) -> Iterator[Source]:
    """The videos of a shard, in one pass from front to back."""
    last = ""
    try:
        with tarfile.open(shard, "r|*") as archive:
            for _, parts in groupby((member for member in archive if member.isfile()), _key):
                video, note = None, None
                for part in parts:
                    last = part.name
                    content = archive.extractfile(part)
                    assert content is not None  # it is a file
                    suffix = PurePosixPath(part.name).suffix.lower()
                    if suffix == ".json":
                        note = content.read()
                    elif suffix in VIDEO_SUFFIXES:
                        path = spool / f"video{suffix}"
                        with path.open("wb") as copy:
                            video = path, f"{shard}::{part.name}", _hash(content, copy), part.name, shard.stem
                if video is not None:
                    yield Source(*video, note)
                    video[0].unlink()
    except (tarfile.TarError, EOFError) as error:
        where = f"in or behind '{last}'" if last else "at its start"
        raise InputError(f"the shard '{shard}' is cut off or damaged {where} ({error}): copy it again") from error


def _key(member: tarfile.TarInfo) -> str:
    """What the files of one sample share: the name up to the first dot behind the last slash."""
    folder, slash, name = member.name.rpartition("/")
    return folder + slash + name.split(".", 1)[0]


def _hash(file: IO[bytes], copy: IO[bytes] | None = None) -> str:
    """SHA-256 of the rest of a file, which is copied on the way where asked for."""
    digest = hashlib.sha256()
    while block := file.read(COPIED_AT_ONCE):
        digest.update(block)
        if copy is not None:
            copy.write(block)
    return digest.hexdigest()
