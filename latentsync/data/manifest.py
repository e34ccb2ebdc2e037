"""The list of prepared clips that a training reads: JSON lines, the first of them a header.

A line is one `ManifestEntry`. Files are named relative to the manifest's folder and by their content, so the folder can
be moved, and two clips of one name cannot be mixed up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from latentsync.data.arrays import stored_array
from latentsync.data.crops import ClipCrops, Prepared, load_clip, load_readable
from latentsync.data.preparation.speakers import TRAIN
from latentsync.media.outputs import PrivateFile
from latentsync.types import InputError

FORMAT, VERSION = "latentsync manifest", 2
FILE_NAME = "manifest.jsonl"
FEATURES = Path("features")  # in the folder of a manifest: what was computed of its clips, named by contents
AUDIO, VISUAL = FEATURES / "audio", FEATURES / "visual"
AGAIN = "run `latentsync prepare` again (what is there is not done twice)"


@dataclass(frozen=True)
class ManifestEntry:
    """One prepared clip."""

    source: str  # path of the video, or SHARD.tar::NAME
    source_sha256: str  # of the video's bytes
    start: float  # seconds of the source, on the clock of its first picture
    end: float  # seconds
    fps: float  # of the crops
    frames: int
    speaker: str
    av_offset: float  # frames by which the sound came too late in the source; taken out, what is left counts as zero
    confidence: float  # of that offset, on the scale of the critic that the header names
    quality: float  # 0 .. 1, see data.preparation.quality
    split: str  # train or validation
    clip: str  # crops and table in the layout of data.crops, without suffix
    mel: str  # (80, columns) float32, `audio.mel.syncnet_mel` of the clip's sound
    audio_features: str | None = None  # where an encoder was given: its rows, as `data.cached.FeatureCache` keeps them

    @property
    def name(self) -> str:
        """For people: the source's name, the place in it and enough of the content's hash to tell clips apart."""
        stem = Path(self.source.rpartition("::")[2]).stem
        return f"{stem}@{self.start:.2f}s-{Path(self.clip).name[:8]}"


@dataclass(frozen=True)
class Manifest:
    """Prepared clips and the settings they were prepared with."""

    path: Path
    settings: Mapping[str, Any]
    entries: tuple[ManifestEntry, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the entries: with it a run says what it was trained on, because every entry names its content."""
        return hashlib.sha256("\n".join(map(_line, self.entries)).encode()).hexdigest()

    def clips(self, split: str) -> list[ClipCrops]:
        """Every clip of `split` ("train" or "validation"); see `load_readable`. InputError where
        there is none, or where files are gone."""
        entries = [entry for entry in self.entries if entry.split == split]
        if not entries:
            there = ", ".join(sorted({entry.split for entry in self.entries}))
            change = "hold fewer of them out (lower" if split == TRAIN else "hold more of them out (raise"
            raise InputError(
                f"{self.path} has no clip in the split {split!r} (it has: {there}): prepare more speakers, or {change} "
                "split.validation, or change split.seed or the split in the table of speakers)"
            )
        self._check_files(entries)
        return load_readable(entries, self.clip)

    def clip(self, entry: ManifestEntry) -> ClipCrops:
        """One clip."""
        place = self.path.parent / entry.clip
        clip = replace(load_clip(place.parent, place.name), name=entry.name, speaker=entry.speaker)
        return replace(clip, prepared=Prepared(clip.crops, place.name.encode(), clip.waveform, self._mel(entry)))

    def _mel(self, entry: ManifestEntry) -> Path:
        path = self.path.parent / entry.mel
        try:
            stored_array(path)
        except (OSError, ValueError) as error:
            raise InputError(f"'{entry.mel}' of {self.path} cannot be read ({error}): remove it and {AGAIN}") from error
        return path

    def _check_files(self, entries: Iterable[ManifestEntry]) -> None:
        names = [name for entry in entries for name in (f"{entry.clip}.crops.npy", f"{entry.clip}.npz", entry.mel)]
        missing = [name for name in names if not (self.path.parent / name).exists()]
        if missing:
            raise InputError(
                f"{self.path} names {len(missing)} of {len(names)} files that are not there, {missing[0]} first: copy "
                f"its whole folder, or {AGAIN}"
            )


def features_folder(manifest: str | Path) -> Path:
    """Where what is computed of a manifest's clips once is kept. manifest: its file, or its folder"""
    path = Path(manifest)
    return (path if path.is_dir() else path.parent) / FEATURES


def write_manifest(path: Path, entries: Iterable[ManifestEntry], settings: Mapping[str, Any]) -> Manifest:
    """Write a manifest, whole or not at all. settings: what the clips were prepared with, as JSON takes it."""
    entries = tuple(entries)
    header = {"format": FORMAT, "version": VERSION, "clips": len(entries), "settings": dict(settings)}
    lines = [json.dumps(header, ensure_ascii=False), *map(_line, entries)]
    private = PrivateFile(path)
    try:
        private.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        private.publish()
    finally:
        private.remove()
    return Manifest(path, settings, entries)


def _line(entry: ManifestEntry) -> str:
    return json.dumps(asdict(entry), ensure_ascii=False)


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest, or that of a prepared folder. InputError: missing, of another version, cut off or damaged."""
    path = Path(path)
    if path.is_dir():
        if not (path / FILE_NAME).is_file():
            raise InputError(f"the folder '{path}' has no {FILE_NAME}: make one with `latentsync prepare --out {path}`")
        path = path / FILE_NAME
    try:
        first, *rest = path.read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the manifest '{path}' cannot be read ({error}): check the path, or prepare it") from error
    header = _header(path, first)
    entries = tuple(_entry(path, number, line) for number, line in enumerate(rest, 2) if line)
    if len(entries) != header["clips"]:
        raise InputError(f"'{path}' lists {len(entries)} clips of {header['clips']}: it is cut off; copy it again")
    return Manifest(path, header["settings"], entries)


def _header(path: Path, line: str) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"'{path}' is no manifest: its first line does not say {FORMAT!r}; prepare clips to get one")
    if header.get("version") != VERSION:
        raise InputError(
            f"'{path}' was written in version {header.get('version')} of the format and this program reads {VERSION}: "
            f"{AGAIN}, or use the program that wrote it"
        )
    return header


def _entry(path: Path, number: int, line: str) -> ManifestEntry:
    known = {field.name for field in fields(ManifestEntry)}
    try:
        values = json.loads(line)
        strange = sorted(known.symmetric_difference(values))
        if not strange:
            return ManifestEntry(**values)
        fault = f"{strange[0]!r} is missing or unknown"
    except (ValueError, TypeError) as error:
        fault = str(error)
    raise InputError(f"'{path}', line {number} is damaged ({fault}): copy the file again, or {AGAIN}")
