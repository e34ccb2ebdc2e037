"""Partial correlations of lip gaps against their closed form and known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentsync.evaluation.articulation import MIN_FRAMES, partial_correlation, r_target_and_leak, spread
from latentsync.evaluation.mouths import MouthTrack


def tracks(seed: int, frames: int = 75) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three gap tracks that share a part, as sentences between silences do."""
    rng = np.random.default_rng(seed)
    common = np.convolve(rng.normal(size=frames + 8), np.ones(9) / 9, "valid")
    return tuple(0.03 + 0.01 * (common + rng.normal(size=frames)) for _ in range(3))


@given(st.integers(0, 10_000))
def test_partial_correlation_is_the_textbook_formula(seed: int) -> None:
    y, t, s = tracks(seed)
    (_, yt, ys), (_, _, ts), _ = np.corrcoef([y, t, s])
    expected = (yt - ys * ts) / np.sqrt((1 - ys**2) * (1 - ts**2))
    assert partial_correlation(y, t, given=s) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_and_level_of_the_mouth_do_not_count(seed: int, scale: float, level: float) -> None:
    y, t, s = tracks(seed)
    assert r_target_and_leak(scale * y + level, t, s) == pytest.approx(r_target_and_leak(y, t, s), abs=1e-6)


def test_nothing_done_and_a_perfect_dub() -> None:
    _, t, s = tracks(0)
    assert r_target_and_leak(s, t, s) == pytest.approx((0.0, 1.0))
    assert r_target_and_leak(t, t, s) == pytest.approx((1.0, 0.0))


def test_a_mouth_that_never_moves_follows_nobody() -> None:
    _, t, s = tracks(1)
    assert r_target_and_leak(np.full(75, 0.02), t, s) == (0.0, 0.0)


def test_what_both_tracks_share_with_the_third_does_not_count() -> None:
    rng = np.random.default_rng(2)
    s = rng.normal(size=5000)
    y, t = s + 0.5 * rng.normal(size=5000), s + 0.5 * rng.normal(size=5000)
    assert np.corrcoef(y, t)[0, 1] > 0.75
    assert abs(partial_correlation(y, t, given=s)) < 0.05


def test_frames_without_a_face_and_surplus_frames_are_left_out() -> None:
    y, t, s = tracks(3)
    holes = y.copy()
    holes[[0, 10, 11]] = np.nan
    kept = np.isfinite(holes)
    expected = partial_correlation(y[kept], t[kept], given=s[kept])
    assert partial_correlation(np.append(holes, [9.0, 9.0]), t, given=s) == pytest.approx(expected)


def test_too_few_frames_give_no_number() -> None:
    y, t, s = tracks(4)
    short = np.full(75, np.nan)
    short[: MIN_FRAMES - 1] = y[: MIN_FRAMES - 1]
    assert np.isnan(partial_correlation(short, t, given=s))


def test_spread_matches_the_theory_of_the_mean() -> None:
    values = np.random.default_rng(5).normal(0.6, 0.1, 400)
    found = spread([*values, float("nan")])
    assert (found.count, found.missing) == (400, 1)
    assert found.mean == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert np.isnan(spread([]).mean)


def mouth(times: np.ndarray, gaps: np.ndarray) -> MouthTrack:
    return MouthTrack(times, gaps, np.full((len(times), 4), np.nan), np.full((len(times), 3, 2), np.nan))


def test_gaps_on_another_clock() -> None:
    track = mouth(np.arange(10) / 25, np.arange(10) * 0.01)
    assert track.gaps_at(np.array([0.0, 0.06, 0.36])) == pytest.approx([0.0, 0.015, 0.09])
    assert np.isnan(track.gaps_at(np.array([-0.1, 0.4]))).all()
    holes = replace(track, gaps=np.where(np.arange(10) == 5, np.nan, track.gaps))
    assert np.isfinite(holes.gaps_at(np.array([0.1]))).all() and np.isnan(holes.gaps_at(np.array([0.18, 0.22]))).all()


def test_a_mouth_track_survives_its_file(tmp_path) -> None:
    track = mouth(np.arange(4) / 25, np.array([0.1, np.nan, 0.2, 0.3]))
    track.save(tmp_path / "m.npz")
    assert np.array_equal(MouthTrack.load(tmp_path / "m.npz").gaps, track.gaps, equal_nan=True)
