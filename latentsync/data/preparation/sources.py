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

from latentsync.data.preparation.speakers import Speakers
from latentsync.types import InputError

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v")
SHARD_SUFFIX = ".tar"
COPIED_AT_ONCE = 1 << 22  # bytes


@dataclass(frozen=True)
class VideoFile:
    """A video in a folder, not opened yet. root: the folder that was given, or the file's own."""

    path: Path
    root: Path


@dataclass(frozen=True)
class Shard:
    """A tar file of videos, `KEY.mp4` with `KEY.json` beside it."""

    path: Path


@dataclass(frozen=True)
class Source:
    """One video that lies on disk, and what is known of it. label: as the manifest names it."""

    path: Path
    label: str
    sha256: str
    speaker: str
    split: str  # "" where it is to be drawn


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
                f"'{place}' holds no video ({', '.join(VIDEO_SUFFIXES)}) and no {SHARD_SUFFIX} shard: give another folder"
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


def open_source(found: VideoFile | Shard, speakers: Speakers, scratch: Path) -> Iterator[Source]:
    """The videos of one file or shard, with their content's hash. A shard's are copied into `scratch` one by one and
    removed when the next is asked for. InputError where a shard is damaged, after what came before the damage."""
    if isinstance(found, VideoFile):
        name = found.path.relative_to(found.root).as_posix()
        with found.path.open("rb") as file:
            digest = _hash(file)
        yield Source(found.path, str(found.path), digest, *speakers.of(name, found.root.resolve().name))
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as spool:
        for key, name, path, digest, facts in _members(found.path, Path(spool)):
            label = f"{found.path}::{name}"
            yield Source(path, label, digest, *speakers.of(name, found.path.stem, facts))
            path.unlink()


def _members(shard: Path, spool: Path) -> Iterator[tuple[str, str, Path, str, dict[str, Any]]]:
    """(key, name of the video, its copy, its hash, what its JSON says) for each sample of a shard, in one pass."""
    key = ""
    try:
        with tarfile.open(shard, "r|*") as archive:
            for key, parts in groupby((member for member in archive if member.isfile()), _key):
                video, facts = None, {}
                for part in parts:
                    content = archive.extractfile(part)
                    assert content is not None  # it is a file
                    suffix = PurePosixPath(part.name).suffix.lower()
                    if suffix == ".json":
                        facts = _facts(content.read(), f"{shard}::{part.name}")
                    elif suffix in VIDEO_SUFFIXES:
                        path = spool / f"video{suffix}"
                        with path.open("wb") as copy:
                            video = part.name, path, _hash(content, copy)
                if video is not None:
                    yield key, *video, facts
    except (tarfile.TarError, EOFError) as error:
        where = f"behind '{key}'" if key else "at its start"
        raise InputError(f"the shard '{shard}' is cut off or damaged {where} ({error}): copy it again") from error


def _key(member: tarfile.TarInfo) -> str:
    """What the files of one sample share: the name up to the first dot behind the last slash."""
    folder, slash, name = member.name.rpartition("/")
    return folder + slash + name.split(".", 1)[0]


def _facts(text: bytes, where: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise InputError(f"'{where}' is not JSON ({error}): write the shard again") from error
    if not isinstance(facts, dict):
        raise InputError(f"'{where}' holds no JSON object: write the shard again, with names and values")
    return facts


def _hash(file: IO[bytes], copy: IO[bytes] | None = None) -> str:
    """SHA-256 of the rest of a file, which is copied on the way where asked for."""
    digest = hashlib.sha256()
    while block := file.read(COPIED_AT_ONCE):
        digest.update(block)
        if copy is not None:
            copy.write(block)
    return digest.hexdigest()
