"""UniSync judges files: windows follow each other across runs of crops, moved sound is found where it was moved to."""

from __future__ import annotations

import numpy as np
import pytest
from data_talkers import talker
from models_tiny_unisync import tiny_unisync

from latentsync.data.unisync import BATCH
from latentsync.evaluation.sync.critic import PICTURE_SAMPLES, Talk
from latentsync.evaluation.sync.unisync import UniSyncCritic
from latentsync.types import InputError

SIZE = 32  # px
FRAMES = BATCH + 20  # more than one run of crops
LATE = 5  # frames: a whole number of mel columns


@pytest.fixture(scope="module")
def talk() -> Talk:
    clip = talker(1, frames=FRAMES, size=SIZE)
    return Talk(
        clip.name,
        clip.landmarks,
        clip.waveform[: FRAMES * PICTURE_SAMPLES],
        lambda: iter(clip.crops),
        lambda resolution: iter(clip.crops),
    )


def test_every_window_is_seen_once_and_in_order(talk: Talk) -> None:
    critic = UniSyncCritic(tiny_unisync())
    whole = critic._vectors.seen(np.stack(list(talk.crops(SIZE))))
    assert np.allclose(critic.seen(talk), whole, atol=1e-6) and len(whole) == FRAMES - 4
    scores = critic.scores(talk, 3)
    assert scores.shape == (FRAMES - 4, 7) and scores.min() >= 0 and scores.max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", ["rgb", "landmarks"])
def test_sound_that_is_moved_is_found_where_it_went(talk: Talk, kind: str) -> None:
    made = {"kind": "landmarks", "width": 478 * 2, "source": "face tracker, 478 points"}
    critic = UniSyncCritic(tiny_unisync(made if kind == "landmarks" else None))
    scores, late = critic.scores(talk, 8), critic.scores(talk.shifted(LATE), 8)
    assert np.allclose(late[15:-15, LATE:], scores[15:-15, :-LATE], atol=1e-5)
    assert not np.allclose(late[15:-15], scores[15:-15], atol=1e-2)


def test_a_network_that_needs_another_one_is_refused() -> None:
    made = {"kind": "3dmm", "width": 58, "source": "blendshapes"}
    with pytest.raises(InputError, match="looks at 3dmm made by blendshapes"):
        UniSyncCritic(tiny_unisync(made))
