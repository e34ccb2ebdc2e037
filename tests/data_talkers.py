"""Clips in memory whose mouth is as open as the sound is loud: trivially in step, and cheap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from latentsync.data.crops import ClipCrops
from latentsync.faces.alignment import LANDMARKS, LEFT_BROW, NOSE, RIGHT_BROW, TEMPLATE
from latentsync.faces.lips import CHIN, FOREHEAD, INNER_BOTTOM, INNER_TOP, OUTER_LIP
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS

SCALE = 4.0  # px of the frame a template unit
LIPS = (37.5, 68.0)  # template units


def talker(seed: int, *, frames: int = 60, size: int = 16, speaker: str = "", name: str | None = None) -> ClipCrops:
    """The bright part of the crop's lower half is as high as the sound is loud."""
    rng = np.random.default_rng(seed)
    loud = np.interp(np.arange(frames) / 3, np.arange(frames // 3 + 2), rng.random(frames // 3 + 2))
    crops = np.full((frames, size, size, 3), 90, np.uint8)
    crops[:, : size // 2] += rng.integers(0, 120, (size // 2, size, 3), np.uint8)
    above = loud[:, None] * size / 2 - np.arange(size // 2)  # (f, rows)
    crops[:, size // 2 :] = (40 + 200 * above.clip(0, 1)).astype(np.uint8)[:, :, None, None]
    samples = round(frames / MODEL_FPS * AUDIO_SAMPLE_RATE)
    envelope = np.interp(np.arange(samples) / samples * frames, np.arange(frames), loud)
    waveform = (10 ** (2 * envelope - 3) * rng.standard_normal(samples)).astype(np.float32)
    times = np.arange(frames) / MODEL_FPS
    return ClipCrops(name or f"talker_{seed}", crops, np.stack([mesh(gap) for gap in loud]), times, waveform, speaker)


def mesh(gap: float) -> np.ndarray:
    """(478, 2): a face that looks at the camera, the mouth `gap` of 1 open."""
    points = np.full((LANDMARKS, 2), TEMPLATE[2])
    for group, place in zip((LEFT_BROW, RIGHT_BROW, NOSE), TEMPLATE, strict=True):
        points[list(group)] = place
    angles = np.linspace(0, 2 * np.pi, len(OUTER_LIP), endpoint=False)
    points[list(OUTER_LIP)] = np.array(LIPS) + np.stack([12 * np.cos(angles), (4 + 4 * gap) * np.sin(angles)], axis=1)
    points[INNER_TOP], points[INNER_BOTTOM] = (LIPS[0], LIPS[1] - 4 * gap), (LIPS[0], LIPS[1] + 4 * gap)
    points[FOREHEAD], points[CHIN] = (37.5, 0.0), (37.5, 90.0)
    return (SCALE * points).astype(np.float32)


SWITCHED = 38  # frame from which a switcher looks and sounds otherwise


def switcher(seed: int, size: int = 16) -> ClipCrops:
    """Hums with the left half of the mouth bright, then hisses with the right: what is of one moment is plain."""
    rng = np.random.default_rng(seed)
    plain = talker(seed, frames=2 * SWITCHED, size=size, name=f"switcher_{seed}")
    crops = plain.crops.copy()
    crops[:, size // 2 :] = 60 + rng.integers(0, 20, (2 * SWITCHED, 1, 1, 1))
    crops[:SWITCHED, size // 2 :, : size // 2] += 120
    crops[SWITCHED:, size // 2 :, size // 2 :] += 120
    samples = len(plain.waveform)
    noise, half = rng.standard_normal(samples + 1), samples // 2
    hum = 0.3 * np.sin(2 * np.pi * rng.uniform(120, 200) * np.arange(half) / AUDIO_SAMPLE_RATE)
    waveform = np.concatenate([hum, 0.1 * np.diff(noise)[half:]]).astype(np.float32)
    return replace(plain, crops=crops, waveform=waveform)
