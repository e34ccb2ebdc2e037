"""One clip of a whole video, without segments, sync critic and split: for short recordings known to be good."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentsync.data.crops import ClipCrops, load_clip, write_table
from latentsync.data.preparation.resample import on_the_clock
from latentsync.data.preparation.store import Dropped, write_array, write_whole
from latentsync.data.preparation.tracking import TickStream, longest_run
from latentsync.faces.detection import default_detector
from latentsync.types import MODEL_FPS, InputError


def prepare_clip(video: Path, folder: Path, resolution: int) -> ClipCrops:
    """The longest stretch in which the largest face is seen without a break, at 25 frames a second, with all the sound.

    It is written to `folder` and named after the video's file; one that is there is opened as it is. InputError when
    the video cannot be read, has no sound or shows no face.
    """
    name = video.stem
    table = folder / f"{name}.npz"
    if not table.exists():
        try:
            ticks, waveform, _ = on_the_clock(video)
        except Dropped as error:
            raise InputError(f"{video}: {error}; leave this clip out") from error
        run = longest_run(TickStream(video, ticks).between(0, len(ticks)), resolution, default_detector())
        if run is None:
            raise InputError(f"{video}: no face was found in any frame; leave this clip out")
        times = (run.start + np.arange(len(run.crops))) / MODEL_FPS
        landmarks = np.stack(run.landmarks).astype(np.float32)
        write_array(folder / f"{name}.crops.npy", np.stack(run.crops))
        write_whole(
            table, lambda file: write_table(file, landmarks, times, waveform)
        )  # last: without it there is no clip
    return load_clip(folder, name)
