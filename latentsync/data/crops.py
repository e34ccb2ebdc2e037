"""Aligned face crops of one clip on disk, and the list of them that a training run reads. All of it stays there.

A clip is two files: `NAME.crops.npy`, uint8 `(f, r, r, 3)` RGB, and `NAME.npz`, not compressed, with
`lm` `(f, 478, 2)` landmarks in pixels of the source frame, `times` `(f,)` seconds, `wav` `(samples,)` 16 kHz mono.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np

from latentsync.data.arrays import Array, stored_array, stored_arrays
from latentsync.data.sound import SyncSound
from latentsync.types import InputError

MOST_UNREADABLE = 0.01  # share of the clips that may be damaged; more means that something is wrong with the data
NAMED = 3  # of them, in a message


@dataclass(frozen=True)
class ClipCrops:
    """One clip, ready for training."""

    name: str
    crops: Array  # (f, r, r, 3) uint8 RGB
    landmarks: Array  # (f, 478, 2) float32 pixels of the source frame; NaN where there is no face
    times: np.ndarray  # (f,) seconds
    waveform: Array  # (samples,) float32, 16 kHz
    speaker: str = ""  # who speaks; "" where that is not known
    prepared: Prepared | None = None

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def usable(self) -> np.ndarray:
        """(f,) bool: frames that have a face."""
        return ~np.isnan(self.landmarks[:, 0, 0])  # all of it is read: keep what you need again

    @property
    def sync_sound(self) -> SyncSound:
        """What sync networks hear."""
        known = self.prepared
        return SyncSound(self.waveform, known.mel if known is not None and known.waveform is self.waveform else None)

    @property
    def picture_contents(self) -> bytes:
        """What tells the crops from any others: all their bytes where no preparation has named them."""
        known = self.prepared
        return known.name if known is not None and known.crops is self.crops else np.asarray(self.crops).tobytes()


@dataclass(frozen=True)
class Prepared:
    """What `latentsync prepare` knows of a clip, as long as the clip holds these very arrays."""

    crops: Array
    name: bytes  # of the crops, by their content
    waveform: Array
    mel: Path  # see SyncSound


def load_clip(folder: Path, name: str) -> ClipCrops:
    """Open the clip `name` of `folder`; what is indexed is read.

    InputError where a file of it is missing or damaged.
    """
    try:
        table, crops = stored_arrays(folder / f"{name}.npz"), stored_array(folder / f"{name}.crops.npy")
        landmarks, times, waveform = table["lm"], np.asarray(table["times"]), table["wav"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(
            f"the prepared clip '{folder / name}' cannot be read ({error}): prepare its video again, or leave it out"
        ) from error
    return ClipCrops(name, crops, landmarks, times, waveform)


Named = TypeVar("Named")


def load_readable(names: Iterable[Named], load: Callable[[Named], ClipCrops]) -> list[ClipCrops]:
    """`load` of all names; warns of clips that are damaged and leaves them out.

    load: raises InputError for such a clip. InputError where there are more than 1 % of them.
    """
    clips, damaged = [], []
    for name in names:
        try:
            clips.append(load(name))
        except InputError as error:
            damaged.append(str(error))
    if damaged:
        told = f"{len(damaged)} of {len(clips) + len(damaged)} clips are damaged: {'; '.join(damaged[:NAMED])}"
        if len(damaged) > MOST_UNREADABLE * (len(clips) + len(damaged)):
            raise InputError(told)
        warnings.warn(f"{told}; they are left out", UserWarning, stacklevel=2)
    return clips


def write_table(file: Path, landmarks: np.ndarray, times: np.ndarray, waveform: np.ndarray) -> None:
    """Write what a clip holds beside its pictures, see `ClipCrops`, to `file` (.npz)."""
    np.savez(file, lm=landmarks, times=times, wav=waveform)


def load_folder(folder: Path, *, leave_out: frozenset[str] = frozenset()) -> list[ClipCrops]:
    """Every clip of `folder` by name, except those named in `leave_out`; see `load_readable`.

    InputError when none is left.
    """
    names = sorted(path.name.removesuffix(".crops.npy") for path in Path(folder).glob("*.crops.npy"))
    clips = load_readable((name for name in names if name not in leave_out), lambda name: load_clip(Path(folder), name))
    if not clips:
        raise InputError(f"{folder}: no prepared clips found (NAME.crops.npy with NAME.npz); prepare some first")
    return clips
