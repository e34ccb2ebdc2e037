"""Files of any frame rate come to the clock of 25 pictures a second, picture by picture as preparation chooses them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentsync.data.preparation.resample import tick_table
from latentsync.data.synthetic import write_clip
from latentsync.evaluation.clock import frames_at_25, on_ticks, rate_note
from latentsync.media.probe import probe_video
from latentsync.types import Frame


@settings(max_examples=60)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 300))
def test_a_stream_shows_what_the_table_of_preparation_says(steps: list[int], last: int) -> None:
    times = np.concatenate([[0.0], np.cumsum(steps) / 1000])
    end = float(times[-1]) + last / 1000
    frames = [Frame(index, float(time), np.full((1, 1, 3), index % 256)) for index, time in enumerate(times)]
    shown = list(on_ticks(frames, lambda: end))
    assert [int(frame.image[0, 0, 0]) for frame in shown] == tick_table(times, end).tolist()
    assert [frame.index for frame in shown] == list(range(len(shown)))
    assert [frame.time for frame in shown] == pytest.approx([tick / 25 for tick in range(len(shown))])


@pytest.mark.parametrize(("fps", "frames", "ticks"), [(25, 20, 20), (50, 20, 10), (30, 30, 25), (12.5, 10, 20)])
def test_a_file_has_25_ticks_a_second(tmp_path, fps: float, frames: int, ticks: int) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, [np.full((32, 32, 3), 10 + 5 * index, np.uint8) for index in range(frames)], fps=fps)
    shown = [round((frame.image.mean() - 10) / 5) for frame in frames_at_25(path)]
    assert shown == pytest.approx([round(tick / 25 * fps - 1e-3) for tick in range(ticks)], abs=1)
    note = rate_note(probe_video(path))
    assert note is None if fps == 25 else note is not None and f"{fps:g} frames a second" in note
