"""Stage 4: scenes -> segments of 5 to 10 s. Pure arithmetic, so nothing is stored."""

from __future__ import annotations

from itertools import pairwise


def split_scene(start: int, stop: int, shortest: int, longest: int) -> list[tuple[int, int]]:
    """(start, stop) of the segments of one scene, all in ticks, each `shortest` to `longest` long.

    As few as can be and of equal length, so that nothing is lost; where that would make them too short, as many of
    `longest` as fit. None where the scene is shorter than `shortest`.
    """
    length = stop - start
    if length < shortest:
        return []
    parts = -(-length // longest)
    if length // parts < shortest:
        parts, length = length // longest, length // longest * longest
    bounds = [start + length * part // parts for part in range(parts + 1)]
    return list(pairwise(bounds))
