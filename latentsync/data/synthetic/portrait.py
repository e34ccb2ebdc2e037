"""The still layers of a drawn head: skin, ears, hair, neck, clothes and backdrop, lit and textured once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentsync.data.synthetic import canvas as brush
from latentsync.data.synthetic import hair, mouth
from latentsync.data.synthetic.canvas import Canvas, blob, pair, rgb, smoothstep
from latentsync.data.synthetic.identity import Identity

HEAD = (-1.6, -2.15, 1.6, 2.3)  # left, top, right, bottom of the head's layers, face units
_CROWN = -1.62


@dataclass(frozen=True)
class Portrait:
    """Layers with premultiplied alpha, float32 0 .. 1; head layers share `canvas`."""

    canvas: Canvas
    head: np.ndarray  # (h, w, 4) face, ears and front hair; lips shut, eyes shut
    back: np.ndarray | None  # (h, w, 4) hair behind the neck
    depth: np.ndarray  # (h, w) z towards the camera, face units
    body_canvas: Canvas
    body: np.ndarray  # (h, w, 4) neck, shoulders, clothes


def paint(identity: Identity, scale: float, body_scale: float) -> Portrait:
    """All still layers, the head's at `scale` and the body's at `body_scale` pixels per face unit."""
    still = Canvas.over(*HEAD, scale)
    fine = still.finer()
    rng = np.random.default_rng([0x9A17, identity.seed])
    relief = _relief(identity, fine)
    skin = _skin(identity, fine, relief, rng)
    face = brush.layer(skin, smoothstep(-0.012, 0.012, _inside(identity, fine)))
    head = _stack(_ears(identity, fine), face)
    front, back = hair.paint(identity, fine, rng)
    head = _stack(head, front)
    body_canvas = Canvas.over(-2.6, 0.6, 2.6, 2.9, body_scale)
    return Portrait(
        still,
        brush.shrink(head),
        None if back is None else brush.shrink(back),
        brush.shrink(np.maximum(relief, 0.0)),
        body_canvas,
        brush.shrink(_body(identity, body_canvas.finer(), rng)),
    )


def _stack(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    return above + below * (1 - above[..., 3:])


def _half_width(identity: Identity, y: np.ndarray) -> np.ndarray:
    """x of the face's outline at height y; 0 beyond crown and chin."""
    middle, half = (identity.chin + _CROWN) / 2, (identity.chin - _CROWN) / 2
    u = np.clip(np.abs(y - middle) / half, 0, 1)
    jaw = 1 + (identity.jaw - 1.06) * np.exp(-0.5 * np.square((y - 1.05) / 0.35))
    return 1.0 * jaw * (1 - u**2.25) ** 0.5


def _inside(identity: Identity, canvas: Canvas) -> np.ndarray:
    """Rough distance (h, w) to the outline of the face, positive inside."""
    half = _half_width(identity, canvas.y)
    slope = np.gradient(half, axis=0) * canvas.scale
    return np.where(half > 0.03, (half - np.abs(canvas.x)) / np.sqrt(1 + np.minimum(slope * slope, 60.0)), -1.0)


def _relief(identity: Identity, canvas: Canvas) -> np.ndarray:
    """Height (h, w) of the face towards the camera."""
    half = np.maximum(_half_width(identity, canvas.y), 1e-3)
    middle, tall = (identity.chin + _CROWN) / 2, (identity.chin - _CROWN) / 2
    across = np.clip(np.abs(canvas.x) / half, 0, 1)
    along = np.clip(np.abs(canvas.y - middle) / tall, 0, 1)
    z = 0.85 * np.sqrt(np.maximum(1 - across**2.3, 0)) * (1 - along**3.2) ** 0.5
    eye = identity.eye_distance
    z += 0.05 * pair(canvas, 0.36, identity.brow_height + 0.03, 0.24, 0.08)
    z -= 0.10 * pair(canvas, eye - 0.04, -0.02, 0.22, 0.13)
    z += 0.05 * pair(canvas, eye, 0.01, 0.14, 0.10)
    z += 0.07 * pair(canvas, 0.56, 0.42, 0.24, 0.22)
    z -= 0.05 * pair(canvas, 0.68, 0.95, 0.18, 0.25)
    z += 0.09 * blob(canvas, 0, identity.chin - 0.17, 0.22, 0.13)
    z -= 0.06 * blob(canvas, 0, identity.mouth_y + 0.25, 0.22, 0.06)
    return (z + _nose(identity, canvas) + _lip_relief(identity, canvas)).astype(np.float32)


def _nose(identity: Identity, canvas: Canvas) -> np.ndarray:
    base, wide = identity.nose_length, identity.nose_width
    along = np.clip((canvas.y + 0.15) / (base - 0.12 + 0.15), 0, 1)
    spread = (0.085 + 0.06 * along) * wide
    ridge = (0.06 + 0.2 * along**1.4) * np.exp(-0.5 * np.square(canvas.x / spread))
    ridge *= smoothstep(-0.35, 0.0, canvas.y) * smoothstep(base + 0.08, base - 0.14, canvas.y)
    tip = 0.15 * blob(canvas, 0, base - 0.12, 0.11 * wide, 0.10)
    wings = 0.12 * pair(canvas, 0.165 * wide, base - 0.06, 0.06, 0.07)
    return ridge + tip + wings - 0.015 * blob(canvas, 0, base + 0.14, 0.035, 0.1)


def _lip_relief(identity: Identity, canvas: Canvas) -> np.ndarray:
    t = canvas.x / identity.mouth_width
    line = mouth.lip_line(identity, t)
    fade = np.maximum(1 - t * t, 0)
    upper = np.exp(-0.5 * np.square((canvas.y - line + 0.6 * identity.upper_lip) / (0.55 * identity.upper_lip)))
    lower = np.exp(-0.5 * np.square((canvas.y - line - 0.5 * identity.lower_lip) / (0.5 * identity.lower_lip)))
    seam = np.exp(-0.5 * np.square((canvas.y - line) / 0.02))
    return fade * (0.05 * upper + 0.07 * lower - 0.03 * seam) + 0.05 * np.exp(
        -0.5 * (np.square(t / 1.1) + np.square((canvas.y - line) / 0.22))
    )


def _skin(identity: Identity, canvas: Canvas, relief: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lit face (h, w, 3) without hair."""
    color = np.broadcast_to(rgb(identity.skin), (*canvas.shape, 3)).copy()
    color = _complexion(identity, canvas, color, rng)
    color = _lips(identity, canvas, color, rng)
    bumps = 0.0003 * brush.noise(canvas, rng, 0.03) + 0.0002 * brush.noise(canvas, rng, 0.014)
    lit = light(identity, canvas, relief + bumps * (1 - _red(identity, canvas)), color, gloss=_gloss(identity, canvas))
    lit *= _folds(identity, canvas)[..., None]
    return np.clip(_brows(identity, canvas, lit, rng), 0, 1)


def light(
    identity: Identity, canvas: Canvas, relief: np.ndarray, color: np.ndarray, gloss: np.ndarray | float
) -> np.ndarray:
    """Shade `color` (h, w, 3) on the surface z = relief: soft main light, fill, contact shadow, a little gloss."""
    import cv2

    slope_y, slope_x = np.gradient(relief, 1 / canvas.scale)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(relief)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    sun = np.array(identity.light) / np.linalg.norm(identity.light)
    direct = np.clip((normal @ sun + 0.25) / 1.25, 0, 1)  # light that wraps around, as it does through skin
    around = 0.5 + 0.5 * normal[..., 2] - 0.25 * normal[..., 1]
    hollow = cv2.GaussianBlur(relief, (0, 0), 0.09 * canvas.scale) - relief
    occlusion = np.clip(1 - 1.8 * np.maximum(hollow, 0), 0.6, 1)
    amount = np.maximum((identity.fill * around + (1.14 - identity.fill) * direct) * occlusion, 0.3)
    tint = np.stack([amount**0.9, amount, amount**1.06], axis=-1)  # shadows of skin are warm
    half = sun + np.array((0.0, 0.0, 1.0))
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 26 * gloss
    return (color * tint + shine[..., None]).astype(np.float32)


def _gloss(identity: Identity, canvas: Canvas) -> np.ndarray:
    oily = blob(canvas, 0, 0.35, 0.16, 0.4) + blob(canvas, 0, -0.8, 0.4, 0.3) + 0.5 * pair(canvas, 0.5, 0.4, 0.2, 0.2)
    return (0.05 + 0.1 * oily + 0.16 * _red(identity, canvas)).astype(np.float32)


def _complexion(identity: Identity, canvas: Canvas, color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Redness of cheeks and nose, shade around the eyes, blotches, freckles, stubble."""
    rosy = pair(canvas, 0.55, 0.5, 0.25, 0.22) + 0.8 * blob(canvas, 0, identity.nose_length - 0.1, 0.16, 0.14)
    color = brush.over(color, color * rgb((1.0, 0.84, 0.84)), np.clip(0.55 * rosy, 0, 1))
    tired = pair(canvas, identity.eye_distance, 0.14, 0.2, 0.06) + pair(canvas, identity.eye_distance, -0.1, 0.22, 0.1)
    color = brush.over(color, color * rgb((0.85, 0.76, 0.76)), np.clip(0.5 * tired, 0, 1))
    color *= (1 + 0.018 * brush.noise(canvas, rng, 0.2) + 0.014 * brush.noise(canvas, rng, 0.03))[..., None]
    specks = smoothstep(1.9, 2.6, brush.noise(canvas, rng, 0.022)) * pair(canvas, 0.4, 0.35, 0.35, 0.2)
    color = brush.over(color, color * rgb((0.78, 0.66, 0.58)), identity.freckles * specks)
    if identity.stubble > 0:
        color = brush.over(color, 0.45 * color + 0.25 * rgb(identity.hair), _beard(identity, canvas, rng))
    return color


def _beard(identity: Identity, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Coverage (h, w) of stubble: chin, jaw and above the lip."""
    y, t = canvas.y, np.abs(canvas.x)
    region = smoothstep(0.55, 0.95, y + 0.35 * t**2 - 0.25 * np.exp(-np.square(t / 0.3)))
    region = np.maximum(region, 0.9 * blob(canvas, 0, identity.mouth_y - 0.2, 0.28, 0.07))
    grain = 0.55 + 0.25 * brush.noise(canvas, rng, 0.014, 1.8)
    return np.clip(0.55 * identity.stubble * region * grain, 0, 1)


def _red(identity: Identity, canvas: Canvas) -> np.ndarray:
    """Coverage (h, w) of the red of the lips."""
    t = canvas.x / identity.mouth_width
    top, bottom = mouth.upper_edge(identity, t), mouth.lower_edge(identity, t)
    return smoothstep(-0.014, 0.014, canvas.y - top) * smoothstep(0.016, -0.016, canvas.y - bottom) * (np.abs(t) < 1)


def _lips(identity: Identity, canvas: Canvas, color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    t = canvas.x / identity.mouth_width
    red = rgb(identity.lips) * (1 + 0.05 * brush.noise(canvas, rng, 0.018, 5.0))[..., None]
    red *= np.where(canvas.y < mouth.lip_line(identity, t), 0.9, 1.03)[..., None]
    return brush.over(color, red, 0.92 * _red(identity, canvas))


def _folds(identity: Identity, canvas: Canvas) -> np.ndarray:
    """Darkening (h, w): nostrils, nasolabial folds, lid creases, corners of the mouth, under the lower lip."""
    x, y = np.abs(canvas.x), canvas.y
    base, wide, eye = identity.nose_length, identity.nose_width, identity.eye_distance
    nostril = pair(canvas, 0.085 * wide, base - 0.015, 0.04 * wide, 0.02)
    wing = np.exp(-0.5 * np.square((np.hypot(x - 0.15 * wide, 1.1 * (y - base + 0.07)) - 0.085) / 0.016))
    wing *= smoothstep(0.12, 0.2, x / wide) * smoothstep(base - 0.2, base - 0.1, y)
    path = 0.2 + 0.34 * np.clip((y - base + 0.12) / (identity.mouth_y - base + 0.1), 0, 1.3) ** 0.8
    fold = np.exp(-0.5 * np.square((x - path) / 0.028))
    fold *= smoothstep(base - 0.14, base, y) * smoothstep(identity.mouth_y + 0.12, identity.mouth_y - 0.1, y)
    t = (x - eye) / (1.15 * identity.eye_width)
    crease = np.exp(-0.5 * np.square((y + identity.eye_height * (1.75 - t * t) - 0.01) / 0.012)) * (np.abs(t) < 1.05)
    corner = pair(canvas, identity.mouth_width * 1.03, identity.mouth_y + 0.02, 0.03, 0.025)
    dark = 0.55 * nostril + 0.22 * wing + (0.07 + 0.16 * identity.age) * fold + 0.28 * crease + 0.3 * corner
    dark += 0.12 * blob(canvas, 0, identity.mouth_y + identity.lower_lip + 0.06, 0.18, 0.035)
    dark += 0.10 * blob(canvas, 0, base + 0.05, 0.15, 0.04)
    return np.clip(1 - dark, 0.1, 1).astype(np.float32)


def _brows(identity: Identity, canvas: Canvas, color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hairs of both eyebrows."""
    lines = []
    for side in (-1, 1):
        along = rng.uniform(0, 1, int(300 * identity.brow_weight))
        thick = 0.085 * identity.brow_weight * (1 - 0.85 * along**1.5) * np.minimum(1, 0.4 + 3 * along)
        x = 0.15 + 0.58 * along
        y = identity.brow_height - 0.06 * np.sin(0.8 * np.pi * along) + thick * rng.uniform(-0.5, 0.5, along.shape)
        angle = np.radians(-62 + 75 * np.minimum(along / 0.75, 1) + rng.normal(0, 9, along.shape))
        length = 0.05 + 0.03 * along
        ends = np.stack([side * (x + length * np.cos(angle)), y + length * np.sin(angle)], axis=1)
        lines += list(np.stack([np.stack([side * x, y], axis=1), ends], axis=1))
    ink = 0.75 * rgb(identity.hair)
    return brush.over(color, ink, 0.9 * brush.strokes(canvas, lines, 0.005))


def _ears(identity: Identity, canvas: Canvas) -> np.ndarray:
    x, y = np.abs(canvas.x) - 1.0, canvas.y - 0.17
    lean = x - 0.12 * y * -1
    radius = np.hypot(lean / 0.14, y / 0.34)
    depth = 0.25 * np.sqrt(np.maximum(1 - radius**2, 0)) - 0.1 * np.exp(-0.5 * np.square((radius - 0.55) / 0.13))
    skin = np.broadcast_to(rgb(identity.skin) * rgb((0.97, 0.83, 0.8)), (*canvas.shape, 3))
    return brush.layer(np.clip(light(identity, canvas, depth, skin, 0.03), 0, 1), smoothstep(1.05, 0.97, radius))


def _body(identity: Identity, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Neck, shoulders and clothes."""
    x, y = np.abs(canvas.x), canvas.y
    neck = 0.6 * identity.jaw + 1.5 * np.maximum(y - 1.75, 0) ** 1.6
    depth = 0.33 * np.sqrt(np.maximum(1 - (x / neck) ** 2.6, 0.02))
    depth += 0.012 * np.exp(-np.square((x - 0.3 * y + 0.28) / 0.07)) * smoothstep(1.6, 1.95, y)
    skin = np.broadcast_to(rgb(identity.skin), (*canvas.shape, 3)) * rgb((0.97, 0.94, 0.93))
    lit = light(identity, canvas, depth.astype(np.float32), skin, 0.02)
    shade = smoothstep(identity.chin + 0.5, identity.chin - 0.1, y + 0.2 * x * x)
    lit *= (0.9 - 0.45 * shade)[..., None]
    flesh = brush.layer(np.clip(lit, 0, 1), smoothstep(0.01, -0.01, x - neck))
    return _stack(flesh, _clothes(identity, canvas, rng))


def _clothes(identity: Identity, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    x, y = np.abs(canvas.x), canvas.y
    wide = 0.72 * identity.jaw
    slope = 1.80 + 0.26 * np.maximum(x - wide, 0) ** 0.9 + 0.5 * np.maximum(x - 1.75, 0) ** 2
    neckline = 1.80 + (0.1 + 0.5 * identity.collar) * np.maximum(1 - (x / wide) ** 2, 0) ** 1.6
    top = np.maximum(neckline, slope)
    depth = 0.5 * np.sqrt(np.maximum(1 - (x / 2.6) ** 2, 0.02)) + 0.12 * smoothstep(0, 0.5, y - slope)
    depth += 0.02 * brush.noise(canvas, rng, 0.35, 2.0)
    cloth = np.broadcast_to(rgb(identity.clothes), (*canvas.shape, 3))
    cloth = cloth * (1 + 0.03 * brush.noise(canvas, rng, 0.016))[..., None]
    lit = light(identity, canvas, depth.astype(np.float32), cloth, 0.0)
    lit *= (1 - 0.3 * np.exp(-np.maximum(y - top, 0) / 0.05))[..., None]
    return brush.layer(np.clip(lit, 0, 1), smoothstep(-0.01, 0.01, y - top))


def backdrop(identity: Identity, width: int, height: int) -> np.ndarray:
    """Out-of-focus room (height, width, 3) float32 0 .. 1."""
    import cv2

    rng = np.random.default_rng([0xBAC4, identity.seed])
    small = np.zeros((48, 48, 3), np.float32)
    ramp = np.linspace(0, 1, 48, dtype=np.float32)
    mix = np.clip(ramp[:, None] * rng.uniform(0.2, 1) + ramp[None] * rng.uniform(-0.6, 0.6), 0, 1)[..., None]
    small += rgb(identity.backdrop[0]) * (1 - mix) + rgb(identity.backdrop[1]) * mix
    for _ in range(rng.integers(0, 9)):
        x, y, w, h = rng.integers(-10, 48), rng.integers(-10, 48), rng.integers(4, 22), rng.integers(6, 40)
        shade = float(rng.uniform(0.65, 1.3))
        small[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] *= shade
    small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(1.2, 4)))
    return np.clip(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
