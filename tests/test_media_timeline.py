"""Length policy against its definition, on any clock; and once against real files."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_clips import make_clip, number_of

from latentsync.media.probe import probe_video
from latentsync.media.reader import VideoReader
from latentsync.media.timeline import FITS, frames, plan
from latentsync.types import Frame, InputError, VideoInfo

IMAGE = np.zeros((2, 2, 3), np.uint8)
RATES = st.sampled_from(
    [Fraction(25), Fraction(30_000, 1001), Fraction(24_000, 1001), Fraction(50), Fraction(1350, 61)]
)


class MemoryReader:
    """A VideoReader over given times."""

    def __init__(self, times: list[float], end: float):
        self.times, self.end_time, self.frames_seen = times, end, len(times)

    def frames(self, order=None):
        return (Frame(i, self.times[i], IMAGE) for i in (range(len(self.times)) if order is None else order))


def info(fps: Fraction, count: int) -> VideoInfo:
    return VideoInfo(Path("v.mp4"), 2, 2, 0, fps, count, count / float(fps), "h264", "yuv420p", False, 0, 2, 2, 2)


def run(fps: Fraction, count: int, seconds: float, fit: str):
    reader = MemoryReader([float(i / fps) for i in range(count)], float(count / fps))
    timeline = plan(info(fps, count), seconds, fit)
    return list(frames(reader, timeline)), timeline


@settings(max_examples=150)
@given(fps=RATES, count=st.integers(1, 40), seconds=st.floats(0.01, 4), fit=st.sampled_from(FITS))
def test_count_is_that_of_times_before_the_end_of_the_sound(fps, count, seconds, fit):
    shown, timeline = run(fps, count, seconds, fit)
    slots = sum(1 for i in range(1000) if float(i / fps) < seconds - 1e-6)
    expected = {"cut": min(count, slots), "keep": count}.get(fit, slots)
    assert abs(len(shown) - expected) <= (seconds * fps % 1 < 1e-4)  # a picture exactly at the end may fall either way
    assert abs(timeline.expected_frames - expected) <= 1
    assert [item.out_index for item in shown] == list(range(len(shown)))
    assert np.allclose([item.out_time for item in shown], [float(i / fps) for i in range(len(shown))], atol=1e-9)


@settings(max_examples=100)
@given(fps=RATES, count=st.integers(2, 12), seconds=st.floats(0.5, 4))
def test_order_of_each_policy(fps, count, seconds):
    forth = list(range(count))
    wave = forth + forth[-2:0:-1]
    for fit, cycle in (("loop", forth), ("pingpong", wave)):
        shown, _ = run(fps, count, seconds, fit)
        assert [s.frame.index for s in shown] == [cycle[i % len(cycle)] for i in range(len(shown))]
        joints = [i for i, s in enumerate(shown) if s.joint]
        assert joints == (list(range(count, len(shown), count)) if fit == "loop" else [])
    held, _ = run(fps, count, seconds, "hold")
    assert [s.frame.index for s in held] == [min(i, count - 1) for i in range(len(held))]


@settings(max_examples=60)
@given(steps=st.lists(st.integers(1, 200), min_size=2, max_size=12), seconds=st.floats(0.2, 6))
def test_pingpong_shows_a_variable_clock_backwards_as_forwards(steps, seconds):
    times = [t / 1000 for t in accumulate(steps, initial=0)]
    reader = MemoryReader(times, times[-1] + 0.04)
    shown = list(frames(reader, plan(info(Fraction(25), len(times)), seconds, "pingpong")))
    assert all(a.out_time < b.out_time < seconds for a, b in pairwise(shown))
    for a, b in pairwise(shown):
        assert abs(a.frame.index - b.frame.index) == 1
        assert b.out_time - a.out_time == pytest.approx(abs(times[a.frame.index] - times[b.frame.index]), abs=1e-9)


@settings(max_examples=60)
@given(
    steps=st.lists(st.integers(1, 200), min_size=1, max_size=12), seconds=st.floats(0.02, 3), fit=st.sampled_from(FITS)
)
def test_durations_reach_the_next_picture_and_cover_the_sound(steps, seconds, fit):
    times = [t / 1000 for t in accumulate(steps[:-1], initial=0)]
    reader = MemoryReader(times, times[-1] + steps[-1] / 1000)
    shown = list(frames(reader, plan(info(Fraction(25), len(times)), seconds, fit)))
    assert all(a.out_time + a.duration == pytest.approx(b.out_time) for a, b in pairwise(shown))
    end = shown[-1].out_time + shown[-1].duration
    video_ends = fit == "keep" or (fit == "cut" and reader.end_time < seconds)
    assert end == pytest.approx(reader.end_time) if video_ends else end >= seconds - 1e-6


def test_keep_leaves_the_rest_alone():
    shown, _ = run(Fraction(25), 20, 0.4, "keep")
    assert [s.dub for s in shown] == [True] * 10 + [False] * 10


@pytest.mark.parametrize("fit", ["loop", "pingpong", "hold"])
def test_policies_on_a_file(tmp_path: Path, fit: str):
    path = make_clip(tmp_path / "v.mp4", 10)
    shown = list(frames(VideoReader(path), plan(probe_video(path), 1.0, fit)))
    expected = {
        "loop": [*range(10)] * 3,
        "pingpong": [*range(10), *range(8, 0, -1), *range(10)],
        "hold": [*range(10)] + [9] * 20,
    }[fit]
    assert [number_of(s.frame.image) for s in shown] == expected[:25]


def test_unknown_policy_and_no_sound_are_refused():
    for seconds, fit in ((1.0, "stretch"), (0.0, "cut"), (math.nan, "cut")):
        with pytest.raises(InputError):
            plan(info(Fraction(25), 5), seconds, fit)
