"""Whose mouth a dub shows: that of the audio (`r_target`), or that of the video that was dubbed (`r_leak`).

Three tracks of the inner-lip gap over face height, frame by frame: y of the dubbed video, t of the video that the audio
came from, s of the video that was dubbed. Plain correlations mislead, because any two sentences that begin and end in
silence correlate; partial correlations take that common part out. Doing nothing gives 0 / 1, a perfect dub 1 / 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_FRAMES = 10  # frames with all three gaps below which no correlation is worth a number
NOTHING_LEFT = 1e-8  # share of a track's power under which its residual is rounding error
RESAMPLES = 2000  # bootstrap draws
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean of one figure over pairs, its standard deviation over them, and the bootstrap interval of the mean."""

    mean: float
    std: float
    low: float
    high: float
    count: int  # pairs with a number
    missing: int  # pairs without one (too few frames with a face)


def partial_correlation(y: np.ndarray, t: np.ndarray, *, given: np.ndarray) -> float:
    """Pearson correlation of what a straight line in `given` does not explain of y and of t; in [-1, 1].

    y, t, given: (f,) of one clock; cut to the shortest, frames where one is not finite left out. 0 where nothing is
    left to correlate (y or t constant, or equal to `given`), nan with fewer than MIN_FRAMES frames.
    Equals (r_yt - r_ys r_ts) / sqrt((1 - r_ys^2) (1 - r_ts^2)).
    """
    frames = min(len(y), len(t), len(given))
    tracks = np.stack([np.asarray(track, np.float64)[:frames] for track in (y, t, given)])
    tracks = tracks[:, np.isfinite(tracks).all(axis=0)]
    if tracks.shape[1] < MIN_FRAMES:
        return float("nan")
    centred = tracks - tracks.mean(axis=1, keepdims=True)
    centred[np.ptp(tracks, axis=1) == 0] = 0.0  # the mean of equal numbers is off by a rounding error
    rest_y, rest_t = _without(centred[0], centred[2]), _without(centred[1], centred[2])
    if rest_y is None or rest_t is None:
        return 0.0
    return float(np.clip(rest_y @ rest_t / np.sqrt((rest_y @ rest_y) * (rest_t @ rest_t)), -1.0, 1.0))


def _without(track: np.ndarray, given: np.ndarray) -> np.ndarray | None:
    """The residual of `track` on `given`, both (f,) with zero mean; None where only rounding error is left."""
    power, given_power = track @ track, given @ given
    rest = track - (track @ given) / given_power * given if given_power > 0 else track
    return rest if rest @ rest > NOTHING_LEFT * power else None


def r_target(y: np.ndarray, t: np.ndarray, s: np.ndarray) -> float:
    """How far the dub's mouth y follows the speech's own mouth t, beyond what the dubbed video's mouth s explains."""
    return partial_correlation(y, t, given=s)


def r_leak(y: np.ndarray, t: np.ndarray, s: np.ndarray) -> float:
    """How far the dub's mouth y still follows the dubbed video's mouth s, beyond what the speech's mouth t explains."""
    return partial_correlation(y, s, given=t)


def r_target_and_leak(y: np.ndarray, t: np.ndarray, s: np.ndarray) -> tuple[float, float]:
    """(`r_target`, `r_leak`) of gap tracks (f,): y of the dub, t of the speech's own video, s of the dubbed video."""
    return r_target(y, t, s), r_leak(y, t, s)


def spread(values: Sequence[float], *, seed: int = 0) -> Spread:
    """Mean, standard deviation and percentile bootstrap interval (95 %) over pairs; values that are not finite count
    as missing. With no value everything is nan."""
    every = np.asarray(values, np.float64)
    kept = every[np.isfinite(every)]
    if kept.size == 0:
        return Spread(*[float("nan")] * 4, count=0, missing=len(every))
    draws = np.random.default_rng(seed).integers(0, kept.size, (RESAMPLES, kept.size))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(kept[draws].mean(axis=1), [tail, 100 - tail])
    return Spread(float(kept.mean()), float(kept.std()), float(low), float(high), kept.size, len(every) - kept.size)
