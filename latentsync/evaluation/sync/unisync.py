"""UniSync as a critic of files, of whatever representation it was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from latentsync.audio.features import AudioEncoder
from latentsync.data.crops import ClipCrops
from latentsync.data.representations import Blendshapes, LandmarkBasis, ParsedRegions, Representation, representation
from latentsync.data.sync_vectors import runs
from latentsync.data.unisync import UniSyncVectors
from latentsync.evaluation.sync.critic import Talk
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.faces.alignment import PUBLISHED_RESOLUTION
from latentsync.models.unisync import FRAMES, UniSync
from latentsync.types import MODEL_FPS, InputError

PIECE = 64  # new pictures at once, where a representation is made of pictures


class UniSyncCritic(VectorCritic):
    """p_sync in [0, 1] of windows of 5 frames."""

    name, frames = "UniSync", FRAMES

    def __init__(
        self,
        network: UniSync,
        *,
        parser: str | None = None,
        landmarker: Path | str | None = None,
        encoder: AudioEncoder | None = None,
    ) -> None:
        """network: see `hub.load_unisync`; parser, landmarker, encoder: what made the regions, blendshapes and features
        that it was trained on, where it was. InputError where one of them is wanted and missing, or is another.
        """
        super().__init__()
        self._vectors = UniSyncVectors(network, None if encoder is None else encoder.encode)
        self._representation = _representation(network, parser, landmarker)

    def seen(self, talk: Talk) -> np.ndarray:
        """(f - 4, d)."""
        if self._representation is None or isinstance(self._representation, (ParsedRegions, Blendshapes)):
            return np.concatenate([self._vectors.seen(shown) for shown in self._shown(talk)])
        return self._vectors.seen(
            self._representation.make(_clip(talk, slice(None), np.zeros((len(talk), 0, 0, 3), np.uint8)))
        )

    def _shown(self, talk: Talk) -> Iterator[np.ndarray]:
        """What is looked at, a run of pictures after the other."""
        first = 0
        for run in runs(talk.crops(PUBLISHED_RESOLUTION), PIECE, FRAMES):
            crops = np.stack(run)
            there = _clip(talk, slice(first, first + len(crops)), crops)
            yield crops if self._representation is None else self._representation.make(there)
            first += len(crops) + 1 - FRAMES

    def heard(self, talk: Talk) -> np.ndarray:
        """(f - 4, d)."""
        return self._vectors.heard(talk.waveform, len(talk) - self.frames + 1)


def _representation(network: UniSync, parser: str | None, landmarker: Path | str | None) -> Representation | None:
    seen = network.visual
    if network.basis is not None:
        made_by = LandmarkBasis(network.basis.numpy())
    elif seen.kind == "3dmm" and landmarker is None:
        raise InputError(f"this UniSync looks at {seen.source}: give the landmarker that made them")
    else:
        made_by = representation(seen.kind, seen.size, parser, None if landmarker is None else str(landmarker), ())
    if made_by is not None and made_by.source != seen.source:
        told = f"this UniSync looks at {seen.kind} ({seen.source}), and what is given makes {made_by.source}"
        raise InputError(f"{told}: give what it was trained with")
    return made_by


def _clip(talk: Talk, part: slice, crops: np.ndarray) -> ClipCrops:
    """A part of a talk as representations take it."""
    times = np.arange(len(talk))[part] / MODEL_FPS
    return ClipCrops(talk.name, crops, talk.landmarks[part], times, talk.waveform)
