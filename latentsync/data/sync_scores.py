"""How well pictures fit sound that is moved, and how often that is right: the arithmetic of every sync critic here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu

TOLERANCE = 1  # frames between the found and the true place of the sound
THRESHOLD = 0.5  # cosine from which picture and sound count as of one moment
DISTANCE_EPS = 1e-6  # added to every difference, as torch's pairwise distance and so SyncNet's evaluation do

Likeness = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(n, d) of pictures, (n, d) of sound -> (n,), higher where they fit better"""


def cosine(seen: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """(n,) dot products of (n, d) and (n, d), vectors of length 1; 0 against a vector of zeros."""
    return (seen * heard).sum(axis=1)


def minus_distance(seen: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """(n,) Euclidean distances of (n, d) and (n, d) with their sign turned."""
    return -np.linalg.norm(seen - heard + DISTANCE_EPS, axis=1)


def shift_scores(
    seen: np.ndarray, heard: np.ndarray, reach: int, likeness: Likeness = cosine, at: np.ndarray | None = None
) -> np.ndarray:
    """Every window's picture against the sound of the windows around its own.

    seen: (n, d) pictures; heard: (m, d) sound of windows that start one frame after the other; at: (n,) which of these
    belongs to each picture, 0 .. n-1 where not given
    returns: (n, 2 * reach + 1), column c for sound that comes c - `reach` frames later; against zeros outside `heard`
    """
    padded = np.pad(heard, ((reach, reach), (0, 0)))
    at = np.arange(len(seen)) if at is None else at
    return np.stack([likeness(seen, padded[at + column]) for column in range(2 * reach + 1)], axis=1)


def heard_inside(windows: int, reach: int) -> np.ndarray:
    """(windows, 2 * reach + 1) bool: where `shift_scores` of as many pictures as sounds met a sound, not zeros."""
    at = np.arange(windows)[:, None] + np.arange(-reach, reach + 1)
    return (at >= 0) & (at < windows)


def offsets(scores: np.ndarray) -> np.ndarray:
    """(n, 2 * reach + 1) or (2 * reach + 1,) scores -> frames by which the sound comes too late, (n,) or ()."""
    return scores.argmax(axis=-1) - scores.shape[-1] // 2


def right_offsets(scores: np.ndarray, late: int = 0) -> float:
    """Share of the rows (n, shifts) whose offset is found within a frame of `late`, the true one."""
    return float((np.abs(offsets(scores) - late) <= TOLERANCE).mean())


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs, and which of them are of one moment."""

    scores: np.ndarray  # (pairs,)
    match: np.ndarray  # (pairs,) bool

    def accuracy(self, threshold: float = THRESHOLD) -> float:
        """Share of right answers at the threshold."""
        return float(((self.scores > threshold) == self.match).mean())

    @property
    def auc(self) -> float:
        """Probability that a matching pair scores higher; 0.5 is chance (Mann-Whitney, ties count half)."""
        alike, other = self.scores[self.match], self.scores[~self.match]
        return float(mannwhitneyu(alike, other).statistic / (len(alike) * len(other)))
