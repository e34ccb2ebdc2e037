"""Stage 9, where it is wanted: what sync networks look at besides colours, for every clip of the manifest.

It lies in `features/visual` under the digest of the clip's content and of what made it, where `train/unisync.py` looks;
`sources.json` there says what made each kind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from latentsync.data.manifest import VISUAL, Manifest, ManifestEntry
from latentsync.data.preparation.store import write_whole
from latentsync.data.preparation.workers import Pool
from latentsync.data.representations import LandmarkBasis, Representation, RepresentationCache, representation
from latentsync.types import InputError

SOURCES = "sources.json"
KINDS = ("landmarks", "parsing", "3dmm")
TRAINING = "train"  # the split that a basis is fitted on
NAMED = 3  # clips that a line names


@dataclass(frozen=True)
class VisualOptions:
    """What is extracted, and by what."""

    kinds: tuple[str, ...] = ()
    size: int = 96  # px of parsing maps
    parser: str | None = None
    landmarker: str | None = None

    def complaint(self) -> str:
        """What makes no sense, or ""."""
        strange = [kind for kind in self.kinds if kind not in KINDS]
        if strange:
            return f"features.visual has {strange[0]!r}: choose among {', '.join(KINDS)}"
        return "" if self.size > 0 else f"features.visual_size is {self.size}: give pixels"


def check_extractors(options: VisualOptions) -> None:
    """Load what extracts. InputError, CheckpointError where it is not there."""
    for kind in options.kinds:
        if _by_landmarks(kind, options):
            continue
        _made_by(kind, options, None)


def _by_landmarks(kind: str, options: VisualOptions) -> bool:
    """Whether a basis is to be fitted on the clips first."""
    return kind == "3dmm" and options.landmarker is None


# Built once in a worker for each kind.
@lru_cache(maxsize=len(KINDS))
def _built(kind: str, options: VisualOptions) -> Representation:
    found = representation(kind, options.size, options.parser, options.landmarker, ())
    assert found is not None
    return found


def _made_by(kind: str, options: VisualOptions, basis: LandmarkBasis | None) -> Representation:
    return _built(kind, options) if basis is None else basis


def extract(manifest: Manifest, options: VisualOptions, workers: int) -> list[str]:
    """Fill the cache for every clip; what is there is not made again. Returns a line for each kind, for people.

    InputError where a basis cannot be fitted.
    """
    told, sources, where = [], {}, Manifest(manifest.path, {}, ())  # every task carries it to its process
    for kind in options.kinds:
        basis = LandmarkBasis.fit(manifest.clips(TRAINING)) if _by_landmarks(kind, options) else None
        work = partial(_extract_clip, where, kind, options, basis)
        answers = list(Pool(work, workers).answers(manifest.entries))
        sources[kind] = _made_by(kind, options, basis).source
        told.append(_line(kind, sources[kind], answers))
    path = manifest.path.parent / VISUAL / SOURCES
    write_whole(path, lambda file: file.write_text(json.dumps(sources, indent=1) + "\n", encoding="utf-8"))
    return told


def _extract_clip(
    manifest: Manifest, kind: str, options: VisualOptions, basis: LandmarkBasis | None, entry: ManifestEntry
) -> str:
    """Why the clip gave nothing, or ""."""
    try:
        RepresentationCache(_made_by(kind, options, basis), manifest.path.parent / VISUAL)(manifest.clip(entry))
    except InputError as error:
        return str(error)
    return ""


def _line(kind: str, source: str, answers: Sequence[tuple[ManifestEntry, str | None]]) -> str:
    died = [f"{entry.name}: the process that made it died" for entry, answer in answers if answer is None]
    failed = [*died, *(answer for _, answer in answers if answer)]
    line = f"{kind}: {len(answers) - len(failed)} of {len(answers)} clips, {source}"
    return f"{line}; {'; '.join(failed[:NAMED])}" if failed else line
