"""Emotions of a drawn face: how they hold brows, lids and the corners of the mouth, whatever is said."""

from __future__ import annotations

from dataclasses import dataclass

from latentsync.types import InputError


@dataclass(frozen=True)
class Emotion:
    """What a mood adds to a face; 0 is rest, 1 the furthest of a calm talk, strong moods go beyond."""

    smile: float  # corners of the mouth: negative down, positive up
    brow: float  # both brows: negative down, positive up
    frown: float  # inner ends of the brows: -1 up, as in sorrow .. 1 down, as in anger
    lids: float  # -1 narrowed .. 1 wide


EMOTIONS: dict[str, Emotion] = {
    "neutral": Emotion(0.0, 0.0, 0.0, 0.0),
    "happy": Emotion(1.5, 0.25, 0.0, -0.55),
    "sad": Emotion(-1.2, -0.1, -1.0, -0.35),
    "angry": Emotion(-0.7, -0.7, 1.0, -0.4),
    "surprised": Emotion(0.15, 2.2, -0.25, 1.0),
}


def find_emotion(name: str | None) -> Emotion | None:
    """The emotion of that name; None for None. InputError for a name that is not in EMOTIONS."""
    if name is None:
        return None
    if name not in EMOTIONS:
        raise InputError(f"There is no emotion {name!r}; choose one of {', '.join(EMOTIONS)}.")
    return EMOTIONS[name]
