"""How sync critics are compared: offset accuracy in contexts, binary accuracy with AUC, LSE-C and LSE-D.

The first two are never mixed in one column: chance is 9.7 % for the one and 50 % for the other. All figures are the
same in whatever order the clips are given.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from latentsync.data.sync_scores import PairScores, heard_inside, offsets, right_offsets
from latentsync.evaluation.sync.critic import MAX_SHIFT, PICTURE_SAMPLES, SyncCritic, Talk

CONTEXTS = 6  # windows of 5 frames are looked at in contexts of 5, 7, .. 15
PAIRS = 50  # in step of every clip, and as many out of step
SWAPPED_SHARE = 0.2  # of the pairs out of step, with another speaker's sound (UniSync, arXiv 2503.16357)
NEAREST = 2  # frames by which the sound of a pair out of step is moved, at least
SILENT = 0.01  # root mean square below which a window has no speech: two such windows are no pair out of step


def contexts(frames: int) -> tuple[int, ...]:
    """Pictures that a decision is made on, for a critic of windows of `frames`: (5, 7, .. 15) for 5."""
    return tuple(frames + 2 * more for more in range(CONTEXTS))


def in_context(scores: np.ndarray, rows: int) -> np.ndarray:
    """(n, shifts) -> same shape: means over `rows` (odd) rows centred on each one, truncated at the ends."""
    assert rows % 2 == 1, rows
    sums = np.pad(scores.astype(np.float64).cumsum(axis=0), ((1, 0), (0, 0)))
    at = np.arange(len(scores))
    first, last = np.maximum(at - rows // 2, 0), np.minimum(at + rows // 2 + 1, len(scores))
    return (sums[last] - sums[first]) / (last - first)[:, None]


def offset_accuracy(clips: Sequence[np.ndarray], frames: int, late: int = 0) -> dict[int, float]:
    """{context: accuracy}: share of a clip's windows whose offset is found within a frame, then the mean over clips.

    clips: each (windows, 2 * reach + 1) of `SyncCritic.scores`; late: frames by which their sound truly comes too late.
    Perfect Match (Chung et al. 2019) and VocaLiST (Kadandale et al. 2022); chance is 3 / 31 at shifts to 15.
    """
    return {
        context: fmean(right_offsets(in_context(scores, context - frames + 1), late) for scores in clips)
        for context in contexts(frames)
    }


@dataclass(frozen=True)
class Lse:
    """Lip sync error of one talk by SyncNet v2 (Prajwal et al. 2020, by Chung and Zisserman's evaluation)."""

    lse_d: float  # distance at the best shift, lower is better
    lse_c: float  # median over the shifts less that, higher is better
    offset: int  # frames by which the sound comes too late

    @property
    def published_offset(self) -> int:
        """15 - argmin, as the public evaluation prints it: positive where the sound comes too early."""
        return -self.offset


def lse(scores: np.ndarray) -> Lse:
    """scores: (windows, shifts), distances with their sign turned, as `SyncNetCritic` gives them."""
    distances = -scores.mean(axis=0)
    best = float(distances.min())
    return Lse(best, float(np.median(distances)) - best, int(offsets(-distances)))


@dataclass(frozen=True)
class Binary:
    """How well random pairs in step and out of step are told apart."""

    accuracy: float | None  # at the critic's threshold; None where it has none
    auc: float
    auc_shifted: float  # in step against the clip's own sound from another moment
    auc_swapped: float  # in step against another speaker's sound; nan where no other speaker is known
    pairs: int


def binary_accuracy(critic: SyncCritic, talks: Sequence[Talk], seed: int = 0) -> Binary:
    """Random pairs, half of them in step; of the others a fifth have another speaker's sound.

    A talk's pairs are a function of the seed and of what the talks are, not of their order. Its own speaker's name must
    be known for another's sound to be taken. InputError as the critic's.
    """
    ordered = sorted(talks, key=identity)
    drawn = [_draw(critic, talk, _partner(talk, ordered), seed) for talk in ordered]
    match, shifted, swapped = (np.concatenate(kind) for kind in zip(*drawn, strict=True))
    every = pair_scores(match, np.concatenate([shifted, swapped]))
    return Binary(
        None if critic.threshold is None else every.accuracy(critic.threshold),
        every.auc,
        pair_scores(match, shifted).auc,
        pair_scores(match, swapped).auc if len(swapped) else math.nan,
        len(every.match),
    )


def pair_scores(match: np.ndarray, other: np.ndarray) -> PairScores:
    """Scores of pairs in step and of pairs out of step, together."""
    return PairScores(np.concatenate([match, other]), np.repeat([True, False], [len(match), len(other)]))


def identity(talk: Talk) -> str:
    """A name that two different talks do not share: what is drawn for a talk hangs on it."""
    digest = hashlib.sha256(np.ascontiguousarray(talk.waveform).tobytes())
    digest.update(np.ascontiguousarray(talk.landmarks).tobytes())
    return f"{talk.name}:{digest.hexdigest()}"


def _partner(talk: Talk, ordered: Sequence[Talk]) -> Talk | None:
    """The next talk of another speaker, None where there is none."""
    at = next(index for index, other in enumerate(ordered) if other is talk)
    others = (*ordered[at + 1 :], *ordered[:at])
    return next((other for other in others if talk.speaker and other.speaker not in ("", talk.speaker)), None)


def _draw(critic: SyncCritic, talk: Talk, partner: Talk | None, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a talk's pairs: in step, with its own sound moved, with the partner's sound."""
    rng = np.random.default_rng([seed, *hashlib.sha256(identity(talk).encode()).digest()])
    scores = critic.scores(talk, MAX_SHIFT)
    rows = rng.integers(len(scores), size=PAIRS)
    swapped = np.zeros(0)
    if partner is not None:
        other = talk.with_sound(partner.waveform)
        speaks = np.flatnonzero(~(silent(talk, critic.frames) & silent(other, critic.frames))[: len(scores)])
        places = rng.choice(speaks, round(PAIRS * SWAPPED_SHARE)) if len(speaks) else speaks
        swapped = critic.scores(other, 0)[places, 0]
    places = np.argwhere(_may_be_moved(silent(talk, critic.frames)[: len(scores)]))
    count = PAIRS - len(swapped) if len(places) else 0
    at, column = places[rng.integers(len(places), size=count)].T if count else np.zeros((2, 0), int)
    return scores[rows, MAX_SHIFT], scores[at, column], swapped


def _may_be_moved(quiet: np.ndarray) -> np.ndarray:
    """(windows, shifts) bool: where sound from another moment is out of step; quiet: (windows,) bool."""
    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    there = np.clip(np.arange(len(quiet))[:, None] + shifts, 0, len(quiet) - 1)
    speech = ~(quiet[:, None] & quiet[there])
    return heard_inside(len(quiet), MAX_SHIFT) & (np.abs(shifts) >= NEAREST) & speech


def silent(talk: Talk, frames: int) -> np.ndarray:
    """(f - frames + 1,) bool: windows of `frames` pictures without speech."""
    power = np.square(talk.waveform.astype(np.float64)).reshape(-1, PICTURE_SAMPLES).mean(axis=1)
    return np.sqrt(np.convolve(power, np.full(frames, 1 / frames), "valid")) < SILENT
