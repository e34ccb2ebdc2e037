"""Stage 8: the finished clip, its sound moved to where it belongs, and what is computed from that sound once.

Everything is named by its content: the clip by its source's hash, place, crop options and shift; mel and audio features
by the hash of the samples. A file that is renamed is not done again, two files of one name are not mixed up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.mel import syncnet_mel
from latentsync.data.crops import write_table
from latentsync.data.manifest import FEATURES
from latentsync.data.preparation.resample import TICK_SAMPLES
from latentsync.data.preparation.store import FILES, write_array, write_whole
from latentsync.data.preparation.sync import Spoken
from latentsync.types import MODEL_FPS


def aligned_sound(spoken: Spoken, offset: float) -> np.ndarray:
    """(f * 640,) the samples that belong to the clip's pictures once `offset` frames are taken out: a sound that comes
    too late is read from that much later. Zeros outside the video's sound."""
    start = spoken.start * TICK_SAMPLES + round(offset * TICK_SAMPLES)
    return ArrayWaveform(spoken.waveform).read(start, start + len(spoken.crops) * TICK_SAMPLES)


def finish_clip(spoken: Spoken, offset: float, crops_file: Path, name: str, folder: Path) -> dict[str, Any]:
    """Put the clip into `folder`/clips in the layout of `data.crops`, and its mel for SyncNet into `folder`/features.

    Returns {clip (path without suffix), mel, files}, paths relative to `folder`.
    """
    waveform = aligned_sound(spoken, offset)
    sound = hashlib.sha256(np.ascontiguousarray(waveform, "<f4").tobytes()).hexdigest()
    clip, mel = f"clips/{name[:2]}/{name}", f"{FEATURES}/mel/{sound[:2]}/{sound}.npy"
    if not (folder / mel).exists():
        write_array(folder / mel, syncnet_mel(waveform).numpy())
    write_whole(folder / f"{clip}.crops.npy", lambda file: _link_or_copy(crops_file, file))
    times = np.arange(len(spoken.crops)) / MODEL_FPS
    write_whole(folder / f"{clip}.npz", lambda file: write_table(file, spoken.landmarks, times, waveform))
    return {"clip": clip, "mel": mel, FILES: [f"{clip}.crops.npy", f"{clip}.npz", mel]}


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same bytes where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
