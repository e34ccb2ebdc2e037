"""Distances of lips and shifts of mouths against known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import shift as shifted

from latentsync.evaluation import quality, timing
from latentsync.evaluation.landmarks import LandmarkTrack, lip_distance
from latentsync.evaluation.mouths import MouthTrack
from latentsync.faces.lips import INNER_LIP, OUTER_LIP

FPS = 25.0


@pytest.fixture
def track() -> LandmarkTrack:
    points = np.random.default_rng(0).uniform(20, 80, (5, 478, 2)).astype(np.float32)
    points[3] = np.nan
    return LandmarkTrack(np.arange(5) / FPS, points, np.array([True, True, False, False, True]))


def gaps(frames: int) -> np.ndarray:
    """A mouth that opens and shuts irregularly, smooth enough to be shifted by parts of a frame."""
    time = np.arange(frames)
    return np.sin(0.5 * time) + 0.7 * np.sin(0.83 * time + 1) + 0.5 * np.sin(0.31 * time + 2)


def test_lips_that_are_moved_are_as_far_apart_as_they_were_moved(track):
    moved = track.landmarks.copy()
    moved[:, list(OUTER_LIP + INNER_LIP)] += np.float32((3, 4))
    moved[:, 1] += 50  # the nose does not count
    found = lip_distance(LandmarkTrack(track.times[:4], moved[:4], track.seen[:4]), track)
    assert found[:3] == pytest.approx([5, 5, 5], rel=1e-5) and np.isnan(found[3]) and len(found) == 4
    assert np.nanmax(lip_distance(track, track)) == 0


def test_a_track_comes_back_from_its_file_and_gives_its_mouth(track, tmp_path: Path):
    track.save(tmp_path / "track.npz")
    again = LandmarkTrack.load(tmp_path / "track.npz")
    assert np.array_equal(again.landmarks, track.landmarks, equal_nan=True)
    mouth = MouthTrack.of(again)
    assert np.isfinite(mouth.gaps).tolist() == [True, True, False, False, True]
    assert np.isfinite(mouth.boxes).all(axis=1).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("late", [-7, 0, 3, 12, 2.4])
def test_a_mouth_that_is_late_is_found_late(late):
    wanted = gaps(200)
    found = shifted(wanted, late, order=3, mode="nearest")
    offset = timing.mouth_offset(found, wanted, FPS)
    assert offset.seconds * FPS == pytest.approx(late, abs=0.15) and offset.agreement > 0.97


def test_a_mouth_is_found_through_frames_without_a_face_and_not_where_nothing_moves():
    wanted = gaps(120)
    found = np.roll(wanted, 4)
    found[30:40] = np.nan
    assert timing.mouth_offset(found, wanted, FPS).seconds == pytest.approx(4 / FPS, abs=0.005)
    for still in (np.full(120, 0.1), np.full(120, np.nan), wanted[:4]):
        assert np.isnan(timing.mouth_offset(still, wanted, FPS).seconds)


def test_a_comparison_takes_the_region_it_is_given():
    frames = np.zeros((2, 40, 40, 3), np.uint8)
    changed = frames[1].copy()
    changed[:10] = 100
    mouths = MouthTrack(np.zeros(1), np.zeros(1), np.full((1, 4), np.nan), np.full((1, 3, 2), np.nan))

    def error_outside(rows: int) -> float:
        ledger = quality._Ledger(mouths, lambda index, size: np.arange(40)[:, None].repeat(40, 1) < rows)
        ledger.add(0, frames[0], changed)
        return ledger.close().psnr_outside

    assert error_outside(10) == float("inf")
    assert error_outside(0) == pytest.approx(10 * np.log10(255**2 / (100**2 / 4)))
