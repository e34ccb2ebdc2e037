"""Where a run's weights and data came from, told without anything that only concerns this machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError

from latentsync.data.crops import ClipCrops
from latentsync.data.licences import BESIDE_MANIFEST, Licence, licence_of, read_licences
from latentsync.data.manifest import Manifest, read_manifest
from latentsync.data.preparation.speakers import TRAIN
from latentsync.hub import remote
from latentsync.hub.card import ClipCount, DataFacts, SourceShare
from latentsync.hub.networks import PUBLISHED_RESOLUTION
from latentsync.training.loop.runner import EXPORT
from latentsync.training.unet.data import read_clips
from latentsync.types import MODEL_FPS, InputError

REST, ALL = "all others", "all clips"  # sources that no row of a table of licences covers


@dataclass(frozen=True)
class _Clip:
    source: str
    seconds: float
    speaker: str  # "" where that is not known
    held_out: bool


def data_facts(config: DictConfig, digest: str, licences: Path | None) -> DataFacts:
    """What was trained on, counted anew where the data are still those of the run.

    digest: what the run noted of them; licences: a table, None takes the one beside the manifest. InputError for a
    damaged table.
    """
    manifest = OmegaConf.select(config, "data.manifest") or OmegaConf.select(config, "manifest")
    table = _table(licences, Path(manifest) if manifest else None)
    try:
        clips, found = _read(config, manifest)
    except (InputError, OSError, ConfigAttributeError):  # gone, or of a version with other options
        return DataFacts(digest, note="They could not be read when this card was made: nothing was counted.")
    if found != digest:
        return DataFacts(digest, note="They have changed since the run: nothing was counted.")
    return DataFacts(digest, _count(clips, False), _count(clips, True), _sources(clips, table))


def _table(given: Path | None, manifest: Path | None) -> tuple[Licence, ...]:
    if given is not None:
        return read_licences(given)
    folder = manifest if manifest is None or manifest.is_dir() else manifest.parent
    found = [folder / name for name in BESIDE_MANIFEST if (folder / name).is_file()] if folder else []
    return read_licences(found[0]) if found else ()


def _read(config: DictConfig, manifest: str | None) -> tuple[list[_Clip], str]:
    """The clips and their hash. InputError or OSError where they cannot be read."""
    if manifest:
        read = read_manifest(manifest)
        return _of_manifest(read, OmegaConf.select(config, "data.most_frames")), read.digest
    if OmegaConf.select(config, "data") is None:
        raise InputError("the configuration names no data")
    training, held_out, digest = read_clips(config)
    return [_of_crops(clip, False) for clip in training] + [_of_crops(clip, True) for clip in held_out], digest


def _of_manifest(manifest: Manifest, most: int | None) -> list[_Clip]:
    """most: frames that are used of a clip."""
    return [
        _Clip(entry.source, min(entry.frames, most or entry.frames) / entry.fps, entry.speaker, entry.split != TRAIN)
        for entry in manifest.entries
    ]


def _of_crops(clip: ClipCrops, held_out: bool) -> _Clip:
    return _Clip(clip.name, len(clip) / MODEL_FPS, clip.speaker, held_out)


def _count(clips: Sequence[_Clip], held_out: bool) -> ClipCount:
    chosen = [clip for clip in clips if clip.held_out == held_out]
    speakers = {clip.speaker for clip in chosen}
    return ClipCount(len(chosen), sum(clip.seconds for clip in chosen), None if "" in speakers else len(speakers))


def _sources(clips: Sequence[_Clip], table: Sequence[Licence]) -> list[SourceShare]:
    """A row for each row of the table that covers a clip, and one for what none covers."""
    members: defaultdict[Licence | None, list[_Clip]] = defaultdict(list)
    for clip in clips:
        members[licence_of(clip.source, table)].append(clip)
    rest = REST if len(members) > 1 else ALL
    rows = [row for row in (*table, None) if row in members]
    return [
        SourceShare(
            row.name if row else rest,
            row.licence if row else None,
            len(members[row]),
            sum(clip.seconds for clip in members[row]),
        )
        for row in rows
    ]


def base_model(name: str) -> str | None:
    """The published repository that a name is, if it is one: any other owner/name may as well be a path."""
    parsed = remote.parse_name(name)
    return parsed.repo if parsed and parsed.repo in PUBLISHED_RESOLUTION else None


def own_name(name: str) -> str:
    """What may be told of the name of a file, a folder or a checkpoint: of a path its last part only."""
    if not any(sign in name for sign in "/\\") or (remote.parse_name(name) and not Path(name).exists()):
        return name
    path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    return f"{path.parent.name}/{path.name}" if path.name == EXPORT else path.name


def without_paths(config: DictConfig) -> DictConfig:
    """A configuration whose paths are shortened to their last part."""
    return OmegaConf.create(_shortened(OmegaConf.to_container(config, resolve=True)))  # type: ignore[return-value]


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {_shortened(key): _shortened(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_shortened(entry) for entry in value]
    return own_name(value) if isinstance(value, str) else value
