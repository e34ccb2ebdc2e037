"""Which frame of a track shows the network the person: one from another moment, so that the mouth cannot leak."""

from __future__ import annotations

REFERENCE_DISTANCE = 32  # frames at 25 a second
NEAREST_REFERENCE = 16  # frames at 25 a second, the least that the training drew


def reference_distance(sequences: int) -> int:
    """Distance in positions of one of `sequences` interleaved ones: about as many source frames, never too near."""
    return max(NEAREST_REFERENCE, REFERENCE_DISTANCE // sequences)


def reference_position(position: int, count: int, ended: bool, distance: int = REFERENCE_DISTANCE) -> int | None:
    """Position of the reference for `position` in a sequence that has `count` positions so far.

    `distance` before it; where there is no such frame, `distance` after it; where there is neither, the farthest frame
    of the sequence. None while that cannot be known yet.
    """
    if position >= distance:
        return position - distance
    if position + distance < count:
        return position + distance
    if not ended:
        return None
    return 0 if position > count - 1 - position else count - 1
