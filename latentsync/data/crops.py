"""Aligned face crops of one clip on disk, and the list of them that a training run reads.

A clip is two files: `NAME.crops.npy`, uint8 `(f, r, r, 3)` RGB, read by memory map, and `NAME.npz` with
`lm` `(f, 478, 2)` landmarks in pixels of the source frame, `times` `(f,)` seconds, `wav` `(samples,)` 16 kHz mono.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentsync.types import InputError


@dataclass(frozen=True)
class ClipCrops:
    """One clip, ready for training."""

    name: str
    crops: np.ndarray  # (f, r, r, 3) uint8 RGB, memory-mapped
    landmarks: np.ndarray  # (f, 478, 2) float32 pixels of the source frame; NaN where there is no face
    times: np.ndarray  # (f,) seconds
    waveform: np.ndarray  # (samples,) float32, 16 kHz
    speaker: str = ""  # who speaks; "" where that is not known

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def usable(self) -> np.ndarray:
        """(f,) bool: frames that have a face."""
        return ~np.isnan(self.landmarks[:, 0, 0])


def load_clip(folder: Path, name: str) -> ClipCrops:
    """Open the clip `name` of `folder`; the pictures stay on disk until they are indexed."""
    with np.load(folder / f"{name}.npz") as arrays:
        landmarks, times, waveform = arrays["lm"][..., :2], arrays["times"], arrays["wav"]
    crops = np.load(folder / f"{name}.crops.npy", mmap_mode="r")
    return ClipCrops(name, crops, landmarks, times, waveform.astype(np.float32))


def write_table(file: Path, landmarks: np.ndarray, times: np.ndarray, waveform: np.ndarray) -> None:
    """Write what a clip holds beside its pictures, see `ClipCrops`, to `file` (.npz)."""
    np.savez(file, lm=landmarks, times=times, wav=waveform)


def load_folder(folder: Path, *, leave_out: frozenset[str] = frozenset()) -> list[ClipCrops]:
    """Every clip of `folder` by name, except those named in `leave_out`. Raises InputError when none is left."""
    names = sorted(path.name.removesuffix(".crops.npy") for path in Path(folder).glob("*.crops.npy"))
    clips = [load_clip(Path(folder), name) for name in names if name not in leave_out]
    if not clips:
        raise InputError(f"{folder}: no prepared clips found (NAME.crops.npy with NAME.npz); prepare some first")
    return clips
