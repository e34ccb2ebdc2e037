"""Who is drawn: every number of a face, as a function of one seed.

Lengths are in face units: half the width between the cheekbones is 1, the origin lies between the pupils, x goes to
the image's right and y down. Proportions are those of adults (chin at 1.6, crown at -1.6, lips meet at 1.0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Color = tuple[float, float, float]  # red, green, blue in 0 .. 1, gamma-coded like the frames

_SKINS: tuple[Color, ...] = (
    (0.93, 0.76, 0.67), (0.89, 0.70, 0.58), (0.85, 0.64, 0.51), (0.77, 0.56, 0.42),
    (0.67, 0.46, 0.34), (0.53, 0.35, 0.26), (0.42, 0.28, 0.21),
)  # fmt: skip
_HAIRS: tuple[Color, ...] = (
    (0.09, 0.07, 0.06), (0.16, 0.11, 0.08), (0.27, 0.18, 0.11), (0.40, 0.26, 0.15),
    (0.62, 0.46, 0.27), (0.47, 0.22, 0.11), (0.55, 0.54, 0.53),
)  # fmt: skip
_IRISES: tuple[Color, ...] = ((0.28, 0.17, 0.09), (0.38, 0.25, 0.13), (0.33, 0.45, 0.53), (0.35, 0.43, 0.28))
HAIR_STYLES = ("buzz", "short", "parted", "bob", "long")


@dataclass(frozen=True)
class Identity:
    """One person and the room around them."""

    seed: int
    jaw: float  # width of the jaw, 1 = usual
    chin: float  # y of the chin
    nose_width: float
    nose_length: float  # y of its base
    eye_distance: float  # x of each pupil
    eye_width: float  # half the width of an eye
    eye_height: float  # of the opening, above the line between its corners
    eye_tilt: float
    brow_height: float  # y of the brows
    brow_weight: float
    mouth_y: float
    mouth_width: float  # half, closed and at rest
    upper_lip: float  # height of the red part
    lower_lip: float
    lip_bow: float  # depth of the cupid's bow
    gape: float  # gap between the lips at opening 1
    skin: Color
    lips: Color
    hair: Color
    iris: Color
    teeth: Color
    teeth_size: float  # width of a middle incisor
    stubble: float  # 0 .. 1
    freckles: float  # 0 .. 1
    age: float  # 0 .. 1: depth of the folds
    hair_style: str
    hair_volume: float
    parting: float  # x of the parting
    light: tuple[float, float, float]  # direction to the main light; x right, y down, z to the camera
    fill: float  # share of light from everywhere
    backdrop: tuple[Color, Color]
    clothes: Color
    collar: float  # depth of the neckline
    zoom: float  # half face width in frame widths
    noise: float  # standard deviation of the camera's noise, grey levels

    @classmethod
    def random(cls, seed: int) -> Identity:
        """The person that belongs to `seed`."""
        rng = np.random.default_rng([0xFACE, seed])
        tone = rng.uniform(0, len(_SKINS) - 1)
        skin = _between(_SKINS, tone)
        dark = tone / (len(_SKINS) - 1)
        man = rng.random() < 0.5
        mouth_y = rng.uniform(0.97, 1.05)
        hair = _HAIRS[rng.integers(0, 3 if dark > 0.6 else len(_HAIRS))]
        return cls(
            seed=seed,
            jaw=rng.uniform(0.98, 1.1) if man else rng.uniform(0.9, 1.02),
            chin=mouth_y + rng.uniform(0.58, 0.68),
            nose_width=rng.uniform(0.9, 1.12) + 0.15 * dark,
            nose_length=mouth_y - rng.uniform(0.31, 0.37),
            eye_distance=rng.uniform(0.43, 0.475),
            eye_width=rng.uniform(0.195, 0.225),
            eye_height=rng.uniform(0.07, 0.1),
            eye_tilt=rng.uniform(-0.02, 0.05),
            brow_height=rng.uniform(-0.34, -0.28),
            brow_weight=rng.uniform(0.8, 1.2) if man else rng.uniform(0.5, 0.8),
            mouth_y=mouth_y,
            mouth_width=rng.uniform(0.36, 0.43),
            upper_lip=rng.uniform(0.085, 0.125) + 0.02 * dark,
            lower_lip=rng.uniform(0.125, 0.165) + 0.03 * dark,
            lip_bow=rng.uniform(0.1, 0.35),
            gape=rng.uniform(0.27, 0.34),
            skin=skin,
            lips=_lip_color(skin, dark, rng.uniform(0.3, 0.6) if man else rng.uniform(0.5, 1.0)),
            hair=hair,
            iris=_IRISES[0] if dark > 0.6 else _IRISES[rng.integers(len(_IRISES))],
            teeth=(rng.uniform(0.86, 0.93), rng.uniform(0.83, 0.88), rng.uniform(0.74, 0.82)),
            teeth_size=rng.uniform(0.095, 0.115),
            stubble=rng.uniform(0.0, 0.8) if man else 0.0,
            freckles=rng.uniform(0, 1) * (1 - dark),
            age=rng.uniform(0, 1),
            hair_style=HAIR_STYLES[rng.integers(0, 3) if man else rng.integers(2, 5)],
            hair_volume=rng.uniform(0.1, 0.2),
            parting=rng.uniform(-0.5, 0.5),
            light=(rng.uniform(-0.7, 0.7), rng.uniform(-0.75, -0.35), 1.0),
            fill=rng.uniform(0.35, 0.55),
            backdrop=(_backdrop(rng), _backdrop(rng)),
            clothes=_cloth(rng),
            collar=rng.uniform(0.0, 0.5),
            zoom=rng.uniform(0.235, 0.25),
            noise=rng.uniform(0.8, 2.5),
        )


def _color(values: np.ndarray) -> Color:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def _between(palette: tuple[Color, ...], position: float) -> Color:
    at = min(int(position), len(palette) - 2)
    mix = (1 - position + at) * np.array(palette[at]) + (position - at) * np.array(palette[at + 1])
    return _color(mix)


def _lip_color(skin: Color, dark: float, strength: float) -> Color:
    red = np.array((0.74, 0.34, 0.35)) * (1 - 0.4 * dark)
    mix = 0.3 + 0.45 * strength
    return _color((1 - mix) * np.array(skin) * (0.9, 0.78, 0.78) + mix * red)


def _backdrop(rng: np.random.Generator) -> Color:
    grey = rng.uniform(0.2, 0.8)
    return _color(np.clip(grey + rng.uniform(-0.15, 0.15, 3), 0.05, 0.95))


def _cloth(rng: np.random.Generator) -> Color:
    dye = rng.uniform(0.08, 0.7, 3)
    return _color(dye.mean() + rng.uniform(0.2, 0.7) * (dye - dye.mean()))
