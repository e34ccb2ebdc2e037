"""UniSync as a critic of files: of colours, or of what can be made of the landmarks alone; it listens to mel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from latentsync.data.crops import ClipCrops
from latentsync.data.representations import LandmarkBasis, Representation, representation
from latentsync.data.unisync import BATCH, UniSyncVectors
from latentsync.evaluation.sync.critic import Talk
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.models.unisync import FRAMES, UniSync
from latentsync.types import MODEL_FPS, InputError


class UniSyncCritic(VectorCritic):
    """Cosines in [0, 1], which are p_sync, of windows of 5 frames."""

    name, frames = "UniSync", FRAMES

    def __init__(self, network: UniSync) -> None:
        """network: see `hub.load_unisync`. InputError for one that needs another network to see or to hear."""
        super().__init__()
        self._vectors, self._represent = UniSyncVectors(network), _representation(network)
        self._size = network.visual.size

    def seen(self, talk: Talk) -> np.ndarray:
        """(f - 4, d)."""
        if self._represent is None:
            return np.concatenate([self._vectors.seen(some) for some in _overlapping(talk.crops(self._size))])
        times = talk.start + np.arange(len(talk)) / MODEL_FPS
        no_crops = np.zeros((len(talk), 1, 1, 3), np.uint8)
        clip = ClipCrops(talk.name, no_crops, talk.landmarks, times, talk.waveform, talk.speaker)
        return self._vectors.seen(self._represent.make(clip))

    def heard(self, talk: Talk) -> np.ndarray:
        """(f - 4, d)."""
        return self._vectors.heard(talk.waveform, len(talk) - self.frames + 1)


def _representation(network: UniSync) -> Representation | None:
    """What makes the network's pictures out of landmarks; None for colours."""
    visual = network.visual
    if visual.pixels:
        return None
    if network.basis is not None:
        return LandmarkBasis(network.basis.numpy())
    found = representation(visual.kind, visual.size, None, None, ()) if visual.kind != "3dmm" else None
    if found is None or found.source != visual.source:
        raise InputError(
            f"this UniSync looks at {visual.kind} made by {visual.source}, which cannot be made of a file here: give "
            "one of rgb, of landmarks, or of what is made of landmarks"
        )
    return found


def _overlapping(crops: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Runs of crops whose windows follow each other: each begins with the last 4 crops of the one before."""
    held: list[np.ndarray] = []
    for crop in crops:
        held.append(crop)
        if len(held) == BATCH + FRAMES - 1:
            yield np.stack(held)
            held = held[BATCH:]
    if len(held) >= FRAMES:
        yield np.stack(held)
