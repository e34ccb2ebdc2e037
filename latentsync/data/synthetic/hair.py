"""Hair of a drawn head: strands that follow the styles of `HAIR_STYLES`."""

from __future__ import annotations

import numpy as np

from latentsync.data.synthetic import canvas as brush
from latentsync.data.synthetic.canvas import Canvas, rgb, smoothstep
from latentsync.data.synthetic.identity import Identity

_HAIRLINE = 1.12  # height of the hair's edge above the eyes


def paint(identity: Identity, canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """(front, back) layers (h, w, 4) premultiplied; no back for short hair."""
    strand, texture = _strands(identity, canvas, rng)
    front = brush.layer(_color(identity, canvas, texture, 1.0), _front(identity, canvas, strand))
    if identity.hair_style not in {"bob", "long"}:
        return front, None
    return front, brush.layer(_color(identity, canvas, texture, 0.55), _back(identity, canvas, strand))


def _strands(identity: Identity, canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two images (h, w) of unit deviation that vary across the strands and hardly along them: coarse and fine."""
    import cv2

    swept_up = identity.hair_style in {"buzz", "short"}
    x = canvas.x - (0.3 if swept_up else 1.0) * identity.parting
    y = canvas.y + (0.3 if swept_up else 1.45)
    angle = np.arctan2(x, -y + 0.2 if swept_up else np.maximum(y, -0.1) + 0.3)
    radius = np.hypot(x, y)
    down = smoothstep(-0.3, 0.6, canvas.y)  # on the sides the strands hang
    across = (1 - down) * angle * 1.2 + down * canvas.x
    field = rng.standard_normal((8, 700)).astype(np.float32)
    wave = 0.012 * np.sin(radius * 9 + identity.seed % 7)
    images = []
    for density in (22.0, 90.0):
        column = ((across + wave) * density + 350).astype(np.float32)
        row = (radius * 1.4 + 1).astype(np.float32)
        images.append(cv2.remap(field, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))
    return images[0], 0.5 * images[0] + 0.7 * images[1]


def _color(identity: Identity, canvas: Canvas, texture: np.ndarray, brightness: float) -> np.ndarray:
    sun = identity.light[0]
    crown = np.exp(-0.5 * np.square((np.hypot(canvas.x - 0.4 * sun, canvas.y + 0.55) - 0.85) / 0.13))
    crown *= smoothstep(-0.4, -1.0, canvas.y)
    side = 1 + 0.25 * sun * np.clip(canvas.x, -1, 1)
    shade = brightness * side * (0.85 + 0.16 * texture + 0.45 * crown * (1 + 0.3 * texture))
    rim = 1 - 0.35 * smoothstep(-0.2, 0.5, canvas.y)
    color = rgb(identity.hair) * (shade * rim)[..., None] + 0.05 * (crown * brightness)[..., None]
    return np.clip(color, 0, 1)


def _outline(identity: Identity, canvas: Canvas, strand: np.ndarray) -> np.ndarray:
    """Rough distance (h, w) to the hair's outer edge, positive inside; frayed by the strands."""
    volume = {"buzz": 0.03, "short": 0.6}.get(identity.hair_style, 1.0) * identity.hair_volume
    up = np.minimum(canvas.y + 0.25, 0)
    wide = 1.0 + 0.75 * volume + (0.08 if identity.hair_style in {"bob", "long"} else 0.0)
    radius = np.hypot(canvas.x / wide, up / (1.38 + volume))
    return 1 - radius + 0.004 * strand


def _front(identity: Identity, canvas: Canvas, strand: np.ndarray) -> np.ndarray:
    """Coverage (h, w) of the hair in front of ears and forehead."""
    y = canvas.y
    style = identity.hair_style
    long = style in {"bob", "long"}
    tall, power = (1.2, 2.0) if style in {"parted", "bob", "long"} else (_HAIRLINE, 2.6)
    lean = 0.25 * identity.parting * smoothstep(-0.4, -1.1, canvas.y)
    up = np.maximum(0.05 - y, 0) / tall
    arch = np.abs(canvas.x - lean) / (0.89 + (0.1 * np.maximum(y - 0.4, 0) if long else 0))
    within = (arch**power + up**power) ** (1 / power)
    opening = smoothstep(1.04, 0.94, within + 0.015 * strand)
    reach = {"bob": 1.15, "long": 2.2}.get(style, 0.02)
    below = smoothstep(reach + 0.12, reach - 0.08, y + 0.1 * strand)
    outer = smoothstep(-0.012, 0.016, _outline(identity, canvas, strand))
    if style == "buzz":
        return 0.8 * outer * below * smoothstep(0.86, 1.04, within + 0.01 * strand)
    return outer * below * (1 - opening)


def _back(identity: Identity, canvas: Canvas, strand: np.ndarray) -> np.ndarray:
    """Coverage (h, w) of the hair behind the neck."""
    reach = {"bob": 1.2, "long": 2.25}[identity.hair_style]
    side = 1.06 + 0.75 * identity.hair_volume + 0.02 * strand - np.abs(canvas.x)
    below = smoothstep(reach + 0.1, reach - 0.1, canvas.y + 0.1 * strand)
    return smoothstep(-0.01, 0.02, side) * below * (canvas.y > -0.4)
