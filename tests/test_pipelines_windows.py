"""Windows and references over sequences that grow: every frame once, in order, nothing known too late."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentsync.pipelines.references import reference_distance, reference_position
from latentsync.pipelines.windows import CrossFade, Window, WindowPlanner, interleaved_sequences
from latentsync.types import WINDOW_FRAMES, InputError


def grown(length: int, overlap: int) -> list[Window]:
    planner = WindowPlanner(overlap)
    windows = [window for count in range(1, length + 1) for window in planner.plan(count, ended=False)]
    return windows + list(planner.plan(length, ended=True)) + list(planner.plan(length, ended=True))


@given(length=st.integers(1, 90), overlap=st.integers(0, 8))
def test_every_frame_is_finished_once_and_in_order(length: int, overlap: int) -> None:
    fade, finished = CrossFade(overlap), []
    for window in grown(length, overlap):
        assert 0 <= window.start <= window.fresh < window.stop <= length
        assert window.stop - window.start == min(length, WINDOW_FRAMES)
        positions = torch.arange(window.start, window.start + WINDOW_FRAMES, dtype=torch.float32)
        finished += fade.blend(window, positions.view(1, -1, 1, 1)).flatten().tolist()
    assert finished == pytest.approx(range(length)), "a fade between equal latents changes nothing"


def test_the_fade_is_linear_over_the_shared_frames() -> None:
    fade = CrossFade(4)
    first, second = (torch.full((2, 16, 3, 3), value) for value in (0.0, 1.0))
    kept = fade.blend(Window(0, 16, 0, final=False), first)
    assert kept.shape == (2, 12, 3, 3) and kept.eq(0).all()
    rest = fade.blend(Window(12, 28, 12, final=True), second)
    assert rest[0, :5, 0, 0].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rest.shape[1] == 16


def test_the_last_window_lies_at_the_end_with_full_context() -> None:
    assert grown(17, 4) == [Window(0, 16, 0, final=False), Window(1, 17, 12, final=True)]
    assert grown(16, 4) == [Window(0, 16, 0, final=True)]
    assert grown(5, 4) == [Window(0, 5, 0, final=True)]


@pytest.mark.parametrize("overlap", [-1, 9])
def test_overlap_has_a_range(overlap: int) -> None:
    with pytest.raises(InputError, match="between 0 and 8"):
        WindowPlanner(overlap)


@given(length=st.integers(1, 150), distance=st.sampled_from([16, 32]))
@settings(max_examples=60)
def test_references_come_from_another_moment(length: int, distance: int) -> None:
    for position in range(length):
        known = [
            found
            for count in range(position + 1, length + 1)
            if (found := reference_position(position, count, False, distance)) is not None
        ]
        final = reference_position(position, length, True, distance)
        assert final is not None and 0 <= final < length
        assert set(known) <= {final}, "what is known while the track grows stays true"
        away = abs(final - position)
        if length < distance:
            assert away == max(position, length - 1 - position), "the farthest frame on short tracks"
        else:
            assert away >= distance // 2
        if position >= distance or position + distance < length:
            assert away == distance


def test_interleaving_follows_the_frame_rate() -> None:
    rates = [22.13, 24, 25, 29.97, 30, 48, 50, 59.94, 60, 75, 100, 120, 240]
    assert [interleaved_sequences(rate) for rate in rates] == [1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 10]
    assert [reference_distance(n) for n in (1, 2, 3, 4)] == [32, 16, 16, 16]
