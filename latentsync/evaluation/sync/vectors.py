"""What critics share that turn windows of pictures and of sound into vectors and compare these."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from latentsync.data.sync_scores import THRESHOLD, cosine, shift_scores
from latentsync.evaluation.sync.critic import MAX_SHIFT, Talk, check_length


class VectorCritic(ABC):
    """A `SyncCritic` of two vectors; by default their cosine, with 0.5 between in step and not."""

    name: str
    frames: int
    threshold: float | None = THRESHOLD
    fewest: int | None = None  # pictures that it needs, where these are more than a window

    def __init__(self) -> None:
        self._last: tuple[Talk, np.ndarray] | None = None

    @abstractmethod
    def seen(self, talk: Talk) -> np.ndarray:
        """(windows, d) of the pictures from each one on."""

    @abstractmethod
    def heard(self, talk: Talk) -> np.ndarray:
        """(windows, d) of the sound that belongs to them."""

    @staticmethod
    def likeness(seen: np.ndarray, heard: np.ndarray) -> np.ndarray:
        """(n,) of (n, d) and (n, d); higher is more in sync."""
        return cosine(seen, heard)

    def scores(self, talk: Talk, max_shift: int = MAX_SHIFT) -> np.ndarray:
        """See SyncCritic. The vectors of the last talk's pictures are kept, for the same pictures with other sound."""
        check_length(talk, self.fewest or self.frames)
        if self._last is None or not talk.shows_what(self._last[0]):
            self._last = talk, self.seen(talk)
        return shift_scores(self._last[1], self.heard(talk), max_shift, self.likeness)
