"""Windows of sound on the video clock: tokens around every frame's own time, SyncNet's mel from a window's first."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentsync.audio.features import PUBLISHED_WINDOW, FeatureStream
from latentsync.audio.mel import SYNCNET_RATE
from latentsync.types import FEATURE_RATE

ROWS_BEFORE, ROWS_AFTER = PUBLISHED_WINDOW
WINDOW_ROWS = ROWS_BEFORE + 1 + ROWS_AFTER
CLOCK_SLACK = 1e-6  # rows: a frame time such as 7 / 25 s may fall a rounding error short of its row
SYNCNET_COLUMNS = 52  # of a mel window: those that 16 frames at 25 frames a second reach into


def centre_step(time_s: float) -> int:
    """Row at a frame's time, `int(i * 50 / fps)` of the published windows for frame i at a constant rate."""
    return int(time_s * FEATURE_RATE + CLOCK_SLACK)


def window_steps(time_s: float, steps: int) -> torch.Tensor:
    """time_s: seconds; steps: rows there are -> (10,) int64 row numbers, centre-4 .. centre+5, clamped to the ends."""
    centre = centre_step(time_s)
    return torch.arange(centre - ROWS_BEFORE, centre + ROWS_AFTER + 1).clamp(0, steps - 1)


def audio_windows(stream: FeatureStream, times: Sequence[float]) -> torch.Tensor:
    """times: (f,) seconds -> (f, n, d) float32, n = rows * levels tokens a frame, step-major (levels run fastest).

    The stream's encoder says how many rows a frame takes: ten in the published networks.
    """
    before, after = stream.window
    centres = [centre_step(time) for time in times]
    windows = [stream.rows(centre - before, centre + after + 1) for centre in centres]
    return torch.stack(windows).flatten(1, 2)


def syncnet_start(time_s: float) -> int:
    """Column of `mel.syncnet_mel` at a frame's time, the published `int(80 * i / 25)` for frame i: its window's first.

    The window of 16 frames is this column and the next 51.
    """
    return int(time_s * SYNCNET_RATE + CLOCK_SLACK)
