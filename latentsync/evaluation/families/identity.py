"""Whether the face is still the same person's."""

from __future__ import annotations

import numpy as np

from latentsync.evaluation.families.pictures import Moment
from latentsync.evaluation.material import Take
from latentsync.evaluation.registry import SOURCE, Figures, Missing
from latentsync.faces.identity import IdentityEmbedder

EVERY = 5  # frames from one comparison to the next: a face does not change its owner within 0.2 s


class Likeness:
    """Cosine of the face's embedding with that of the same frame of the source, mean over frames."""

    def __init__(self, take: Take, embedder: IdentityEmbedder | None) -> None:
        self._embedder, self._source = embedder, take.source
        self._made = take.material.track(take.video)
        self._original = None if take.source is None else take.material.track(take.source)
        self._found: list[float] = []

    def add(self, moment: Moment) -> None:
        """See Watcher."""
        if self._embedder is None or self._original is None or moment.source is None or moment.index % EVERY:
            return
        tracks = (self._made, self._original)
        if all(moment.index < len(track.seen) and track.seen[moment.index] for track in tracks):
            images = (moment.made, moment.source)
            first, second = (
                self._embedder.embed(image, track.landmarks[moment.index])
                for image, track in zip(images, tracks, strict=True)
            )
            self._found.append(float(first @ second))

    def figures(self) -> Figures:
        """See Watcher."""
        if self._source is None:
            return {"identity": Missing(f"give {SOURCE}")}
        if self._embedder is None:
            return {"identity": Missing("give --identity-weights, a MobileFaceNet .ckpt file")}
        if not self._found:
            return {"identity": Missing("no frame shows the face in both videos")}
        return {"identity": float(np.mean(self._found))}
