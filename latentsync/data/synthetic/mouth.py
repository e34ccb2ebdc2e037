"""Geometry of the lips: where they lie at rest and how a mouth state moves them. Lengths in face units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentsync.data.synthetic.canvas import smoothstep
from latentsync.data.synthetic.identity import Identity

_RISE = 0.18  # share of the gap by which the upper lip goes up in the middle; the jaw does the rest
_CORNER = 0.3  # share of the gap by which the corners go down
JAW = 1 - _RISE  # share of the gap by which the jaw goes down
LIP_POINTS = np.linspace(-1.0, 1.0, 11)  # where along the mouth, corner to corner, the true landmarks lie


@dataclass(frozen=True)
class MouthState:
    """One moment of the mouth; the first five as in `Articulation`, `smile` -1 .. 1 from the emotion."""

    opening: float
    width: float
    rounding: float
    teeth: float
    tongue: float
    smile: float


@dataclass(frozen=True)
class MouthShape:
    """A state in lengths."""

    gap: float  # between the lips, in the middle
    half_width: float
    jaw: float  # how far the chin is lowered
    power: float  # of the gap's profile along the mouth: 0.5 is an ellipse
    corner: float  # how far the corners are lowered


def shape(identity: Identity, state: MouthState) -> MouthShape:
    """What a state means on this person's face."""
    gap = identity.gape * max(state.opening, 0.0)
    stretch = 1 + 0.14 * state.width - 0.27 * state.rounding + 0.07 * state.smile - 0.06 * state.opening
    power = 0.9 - 0.35 * state.rounding
    return MouthShape(gap, identity.mouth_width * stretch, JAW * gap, power, _CORNER * gap - 0.055 * state.smile)


def lip_line(identity: Identity, t: np.ndarray) -> np.ndarray:
    """y where the lips meet at rest; t = -1 .. 1 from corner to corner."""
    t2 = np.minimum(t * t, 1.2)
    return identity.mouth_y + 0.012 * t2 + 0.012 * np.exp(-np.square(t / 0.18)) - 0.008 * np.exp(-np.square(t / 0.5))


def upper_edge(identity: Identity, t: np.ndarray) -> np.ndarray:
    """y of the red's upper border at rest."""
    bow = 1 - identity.lip_bow * np.exp(-np.square(t / 0.14))
    return lip_line(identity, t) - identity.upper_lip * bow * np.maximum(1 - np.abs(t) ** 1.6, 0) ** 0.95


def lower_edge(identity: Identity, t: np.ndarray) -> np.ndarray:
    """y of the red's lower border at rest."""
    return lip_line(identity, t) + identity.lower_lip * np.maximum(1 - t * t, 0) ** 0.8


def inner_offsets(mouth: MouthShape, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the upper and the lower lip's inner edges lie below the resting lip line at t."""
    t2 = np.minimum(t * t, 1.0)
    upper = mouth.corner * t2 - _RISE * mouth.gap * (1 - t2)
    return upper, upper + mouth.gap * (1 - t2) ** mouth.power


def jaw_share(identity: Identity, y: np.ndarray | float) -> np.ndarray:
    """0 at the nose, 1 at the chin: how much of the jaw's drop the skin beside the mouth follows."""
    return smoothstep(identity.mouth_y - 0.36, identity.mouth_y + 0.5, y)


def jaw_reach(x: np.ndarray) -> np.ndarray:
    """1 in the middle of the face, 0 at the jaw's hinges."""
    return smoothstep(1.0, 0.45, np.abs(x))


def displacement(identity: Identity, mouth: MouthShape, x: np.ndarray, y: np.ndarray, upper: bool) -> np.ndarray:
    """How far down the skin that rests at (x, y) moves, seen as part of the upper or of the lower sheet.

    The face is one sheet slit along the lip line; both sheets agree beside the mouth's corners.
    """
    t = x / identity.mouth_width
    at_corner = float(jaw_share(identity, identity.mouth_y))
    drop = mouth.jaw * jaw_reach(x)
    pull = (mouth.corner - at_corner * mouth.jaw) * np.exp(-0.5 * np.square(np.maximum(np.abs(t) - 1, 0) / 0.4))
    offsets = inner_offsets(mouth, t)
    outside = np.abs(t) >= 1
    share = jaw_share(identity, y)
    if upper:
        edge = np.where(outside, at_corner * drop + pull, offsets[0])
        return edge * share / at_corner
    edge = np.where(outside, at_corner * drop + pull, offsets[1])
    return edge + (drop - edge) * (share - at_corner) / (1 - at_corner)


def widening(identity: Identity, mouth: MouthShape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Resting x of the skin that is now at (x, y): exact on the lips, fading away from them."""
    rest, now = identity.mouth_width, mouth.half_width
    aside = np.maximum(np.abs(x) - now, 0.0)
    follows = np.where(aside > 0, x + np.sign(x) * (rest - now) * np.exp(-aside / 0.25), x * (rest / now))
    top, bottom = identity.mouth_y - 0.17 - 0.2 * mouth.gap, identity.mouth_y + mouth.gap + 0.22
    near = smoothstep(top - 0.25, top, y) * smoothstep(bottom + 0.35, bottom, y)
    return x + near * (follows - x)


def lip_points(identity: Identity, mouth: MouthShape) -> np.ndarray:
    """(4, 11, 2) where the lips are: outer upper, inner upper, inner lower, outer lower edge, left to right."""
    t = LIP_POINTS
    rest = identity.mouth_width * t
    line, top, bottom = lip_line(identity, t), upper_edge(identity, t), lower_edge(identity, t)
    upper, lower = inner_offsets(mouth, t)
    rows = (
        top + displacement(identity, mouth, rest, top, True),
        line + upper,
        line + lower,
        bottom + displacement(identity, mouth, rest, bottom, False),
    )
    return np.stack([np.stack([mouth.half_width * t, row], axis=1) for row in rows])
