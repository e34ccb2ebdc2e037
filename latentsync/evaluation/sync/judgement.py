"""What a critic says of one file: offset, how sure that is, and how well it fits where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentsync.data.sync_scores import offsets
from latentsync.evaluation.sync.critic import MAX_SHIFT, SyncCritic, Talk


@dataclass(frozen=True)
class Judgement:
    """One critic's answer, over all talks of a file."""

    scores: np.ndarray  # (windows, 2 * MAX_SHIFT + 1) of `SyncCritic.scores`
    offset: int  # frames of 1/25 s by which the sound comes too late, by the mean of all windows
    confidence: float  # score at that offset less the median over the shifts, on the critic's scale
    in_step: float  # mean score of the sound where it is: p_sync of a critic of cosines
    accuracy: float | None  # share of the windows above the critic's threshold there; None where it has none
    window_offsets: np.ndarray  # (windows,) frames, of every window alone


def judge(critic: SyncCritic, talks: Sequence[Talk]) -> Judgement:
    """All windows of all talks count alike. InputError as `SyncCritic.scores`."""
    scores = np.concatenate([critic.scores(talk, MAX_SHIFT) for talk in talks])
    fits, here = scores.mean(axis=0), scores[:, MAX_SHIFT]
    return Judgement(
        scores,
        int(offsets(fits)),
        float(fits.max() - np.median(fits)),
        float(here.mean()),
        None if critic.threshold is None else float((here > critic.threshold).mean()),
        offsets(scores),
    )
