"""Protocols of lip sync on answers that are known: offsets, pairs in step and not, LSE."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from evaluation_talks import GapAndLevel, talk
from safetensors.numpy import load_file

from latentsync.data.sync_scores import PairScores, cosine, minus_distance, offsets, right_offsets, shift_scores
from latentsync.evaluation.sync import protocols
from latentsync.evaluation.sync.judgement import judge
from latentsync.types import InputError


@pytest.fixture(scope="module")
def talks():
    return [talk(seed, speaker=f"speaker {seed // 2}") for seed in range(6)]


@pytest.mark.parametrize("frames", [5, 16])
@pytest.mark.parametrize("late", [-15, -4, 0, 1, 9, 15])
def test_sound_moved_by_k_frames_is_found_at_k(late: int, frames: int) -> None:
    critic = GapAndLevel(frames)
    found = judge(critic, [talk(0, 80).shifted(late)])
    assert found.offset == late
    accuracy = protocols.offset_accuracy([critic.scores(talk(0, 80).shifted(late))], frames, late)
    assert list(accuracy) == [frames + 2 * more for more in range(6)]
    assert min(accuracy.values()) > 0.7, "but for the windows whose sound went out of the talk"
    wrong = protocols.offset_accuracy([critic.scores(talk(0, 80).shifted(late))], frames, late - 3)
    assert max(wrong.values()) < 0.3


def test_a_perfect_copy_scores_best_and_swapped_sound_worst(talks) -> None:
    critic = GapAndLevel()
    own = [judge(critic, [one]) for one in talks]
    swapped = [judge(critic, [one.with_sound(other.waveform)]) for one, other in pairwise(talks)]
    assert min(answer.in_step for answer in own) > 0.99 > 0.5 > max(answer.in_step for answer in swapped)
    assert min(answer.accuracy for answer in own) == 1 and all(answer.offset == 0 for answer in own)
    assert min(answer.confidence for answer in own) > 2 * max(answer.confidence for answer in swapped)


def test_all_windows_of_all_talks_count_alike(talks) -> None:
    critic = GapAndLevel()
    found = judge(critic, talks[:2])
    np.testing.assert_array_equal(found.scores, np.concatenate([critic.scores(talk) for talk in talks[:2]]))
    assert len(found.window_offsets) == len(found.scores) == 2 * 56
    assert found.in_step == pytest.approx(np.mean([judge(critic, [talk]).in_step for talk in talks[:2]]))


def averaged_by_the_book(scores: np.ndarray, rows: int) -> np.ndarray:
    """VocaLiST's and Perfect Match's averaging, row by row."""
    half = rows // 2
    return np.stack([scores[max(0, i - half) : i + half + 1].mean(axis=0) for i in range(len(scores))])


def test_contexts_are_means_truncated_at_the_ends() -> None:
    scores = np.random.default_rng(0).random((40, 31))
    for rows in (1, 3, 11):
        np.testing.assert_allclose(protocols.in_context(scores, rows), averaged_by_the_book(scores, rows), rtol=1e-9)
    found = protocols.offset_accuracy([scores, scores[:7]], 5)
    for context, accuracy in found.items():
        best = [averaged_by_the_book(s, context - 4).argmax(axis=1) for s in (scores, scores[:7])]
        clips = [np.mean([abs(i - 15) <= 1 for i in indices]) for indices in best]
        assert accuracy == pytest.approx(np.mean(clips)), "per clip first, then over clips"


def test_chance_is_three_in_31() -> None:
    scores = np.random.default_rng(0).random((20_000, 31))
    assert right_offsets(scores) == pytest.approx(3 / 31, abs=0.01)


def test_context_helps_where_single_windows_are_in_doubt() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(2000, 31))
    scores[:, 17] += 1.5
    found = list(protocols.offset_accuracy([scores], 5, late=2).values())
    assert found == sorted(found) and found[-1] > 0.9 > found[0] + 0.3


def test_outside_of_the_talk_there_are_zeros() -> None:
    rng = np.random.default_rng(0)
    seen, heard = rng.random((6, 4)), rng.random((6, 4))
    found = shift_scores(seen, heard, 2)
    for i in range(6):
        for column in range(5):
            j = i + column - 2
            expected = float(seen[i] @ heard[j]) if 0 <= j < 6 else 0.0
            assert found[i, column] == pytest.approx(expected)
    distances = shift_scores(seen, heard, 2, minus_distance)
    assert distances[0, 0] == pytest.approx(-np.linalg.norm(seen[0] + 1e-6))
    assert cosine(seen, heard)[0] == pytest.approx(found[0, 2])
    thinned = shift_scores(seen[::2], heard, 2, at=np.arange(0, 6, 2))
    np.testing.assert_array_equal(thinned, found[::2])
    assert int(offsets(np.eye(31)[15])) == 0


def test_binary_accuracy_of_a_perfect_critic(talks) -> None:
    found = protocols.binary_accuracy(GapAndLevel(16), talks)
    assert found.accuracy > 0.98 and found.auc == found.auc_shifted == found.auc_swapped == 1.0
    assert found.pairs == 6 * 2 * protocols.PAIRS


def test_the_order_of_the_clips_changes_nothing(talks) -> None:
    critic = GapAndLevel()
    there, back = (protocols.binary_accuracy(critic, list(order)) for order in (talks, reversed(talks)))
    assert there == back and there.accuracy < 1, "not all is told apart, so that order could matter"
    assert protocols.binary_accuracy(critic, talks, seed=1) != there
    scores = [critic.scores(one.shifted(1)) for one in talks]
    assert protocols.offset_accuracy(scores, 5) == protocols.offset_accuracy(scores[::-1], 5)


def test_without_another_speaker_no_sound_is_swapped(talks) -> None:
    for alone in (talks[:2], [replace(one, speaker="") for one in talks]):
        found = protocols.binary_accuracy(GapAndLevel(), alone)
        assert math.isnan(found.auc_swapped) and found.auc == found.auc_shifted


def test_other_sound_is_truly_another_speakers(talks) -> None:
    ordered = sorted(talks, key=protocols.identity)
    for one in ordered:
        partner = protocols._partner(one, ordered)
        assert partner is not None and partner.speaker != one.speaker


def test_silence_is_no_pair_out_of_step() -> None:
    one = talk(3)
    sound = one.waveform.copy()
    sound[: 30 * 640] = 0
    quiet = protocols.silent(one.with_sound(sound), 5)
    assert quiet[:26].all() and not quiet[30:].any()
    allowed = protocols._may_be_moved(quiet)
    rows, columns = np.nonzero(allowed)
    assert (np.abs(columns - 15) >= 2).all() and not (quiet[rows] & quiet[rows + columns - 15]).any()
    assert allowed[28].any(), "silence against speech is one"
    nothing = protocols.binary_accuracy(GapAndLevel(), [one, one.with_sound(np.zeros(9))])
    assert nothing.pairs == 3 * protocols.PAIRS, "a silent talk gives pairs in step only"


def test_auc_and_accuracy_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, match = rng.random(200).round(2), rng.random(200) < 0.4
    pairs = PairScores(scores, match)
    assert pairs.auc == pytest.approx(metrics.roc_auc_score(match, scores))
    assert pairs.accuracy(0.3) == pytest.approx(metrics.accuracy_score(match, scores > 0.3))


def test_a_critic_without_a_threshold_gives_no_accuracy(talks) -> None:
    critic = GapAndLevel()
    critic.threshold = None
    assert protocols.binary_accuracy(critic, talks).accuracy is None
    assert judge(critic, talks[:1]).accuracy is None


def test_pictures_are_looked_at_once_for_any_sound(talks) -> None:
    critic = GapAndLevel()
    for late in (0, 3, -3):
        critic.scores(talks[0].shifted(late))
    assert critic.looked == 1
    critic.scores(talks[1])
    assert critic.looked == 2
    critic.scores(replace(talks[1], crops=talks[0].crops))
    assert critic.looked == 3, "other pictures, though of the same landmarks"


def test_too_short_a_talk_is_told() -> None:
    with pytest.raises(InputError, match=r"talk_0 has 4 pictures of a face and sound for 4, and the critic needs 5"):
        GapAndLevel().scores(talk(0, 4))
    mute = replace(talk(0, 20), waveform=np.zeros(3 * 640, np.float32))
    with pytest.raises(InputError, match="sound for 3, and the critic needs 5"):
        GapAndLevel().scores(mute)


def test_lse_of_the_stored_distances(parity_dir) -> None:
    stored = load_file(parity_dir / "syncnet_v2_io.safetensors")
    scores = shift_scores(stored["visual"], stored["audio"], 15, minus_distance)
    np.testing.assert_allclose(-scores.mean(axis=0), stored["mean_distance"], rtol=1e-4)
    found = protocols.lse(scores)
    assert found.lse_d == pytest.approx(float(stored["lse_d"][0]), rel=1e-4)
    assert found.lse_c == pytest.approx(
        float(stored["lse_c"][0]), abs=1e-4 * found.lse_d
    )  # a difference of nearly equal numbers
    assert found.published_offset == int(stored["av_offset"][0])
