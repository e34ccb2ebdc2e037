"""From a video with a talking face to aligned crops on disk, through the same rooms as dubbing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from latentsync.data.crops import ClipCrops, load_clip
from latentsync.faces.alignment import LANDMARKS, Aligner, anchor_points, crop
from latentsync.faces.detection import default_detector
from latentsync.faces.tracking import SpeakerChooser, track
from latentsync.media.audio import read_waveform
from latentsync.media.reader import VideoReader
from latentsync.media.timeline import frames, plan
from latentsync.types import InputError

ENDLESS = 1e9  # seconds of audio that no video outlasts: every frame is read


def prepare_clip(video: Path, folder: Path, resolution: int) -> ClipCrops:
    """Crop the largest face of every frame and write the clip to `folder`, named after the video's file.

    The first track that the speaker has is kept and nothing after it: a clip is continuous. An existing clip is
    opened as it is. Raises InputError when there is no sound or no face.
    """
    name = video.stem
    if (folder / f"{name}.npz").exists():
        return load_clip(folder, name)
    crops, landmarks, times = _crops(video, resolution)
    if not crops:
        raise InputError(f"{video}: no face was found in any frame; leave this clip out")
    with read_waveform(video) as sound:
        waveform = sound.read(0, len(sound))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, name, np.stack(crops), lm=np.stack(landmarks), times=np.array(times), wav=waveform)
    return load_clip(folder, name)


def _crops(video: Path, resolution: int) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    reader, chooser, aligner = VideoReader(video), SpeakerChooser(), Aligner(resolution)
    crops, landmarks, times, number = [], [], [], None
    for item, faces, _ in track(frames(reader, plan(reader.info, ENDLESS, "cut")), default_detector()):
        image = item.frame.image
        face = chooser.choose(faces, (image.shape[1], image.shape[0]))
        if number is not None and (face is None or face.track != number):
            break
        if face is None:
            continue
        assert face.landmarks.shape == (LANDMARKS, 2)
        number = face.track
        crops.append(crop(image, aligner.matrix(anchor_points(face.landmarks)), resolution))
        landmarks.append(face.landmarks)
        times.append(item.frame.time)
    return crops, landmarks, times


def _write(folder: Path, name: str, crops: np.ndarray, **arrays: np.ndarray) -> None:
    """The table is renamed last: a clip without it does not exist."""
    mark = f".{os.getpid()}.partial"
    picture, table = folder / f"{name}{mark}.npy", folder / f"{name}{mark}.npz"
    np.save(picture, crops)
    np.savez(table, **arrays)
    picture.replace(folder / f"{name}.crops.npy")
    table.replace(folder / f"{name}.npz")
