"""A prepared clip as a video of its own again, for dubbing and measuring on what was prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from latentsync.data.manifest import Manifest, ManifestEntry
from latentsync.data.preparation.resample import TICK_SAMPLES
from latentsync.data.preparation.settings import fingerprints, read_settings
from latentsync.data.preparation.store import StageStore
from latentsync.data.preparation.tracking import TickStream
from latentsync.data.synthetic import write_clip
from latentsync.types import MODEL_FPS, InputError


def write_excerpt(manifest: Manifest, entry: ManifestEntry, path: Path, seconds: float) -> Path:
    """Write the first `seconds` of a clip: whole pictures of its source at 25 a second, with the sound that belongs to
    them. A file that is there already is kept.

    InputError where the source, or the folder of the preparation, is not there any more.
    """
    if path.exists():
        return path
    config = OmegaConf.create(dict(manifest.settings))
    assert isinstance(config, DictConfig)
    settings, source = read_settings(config), Path(entry.source)
    store = StageStore(settings.folder, fingerprints(settings))
    table = store.path("resample", entry.source_sha256, ".ticks.npy")
    for file in (source, table):
        if not file.is_file():
            raise InputError(f"'{file}' is not there any more: put it back, or prepare its video again")
    start, frames = round(entry.start * MODEL_FPS), min(entry.frames, round(seconds * MODEL_FPS))
    pictures = TickStream(source, np.load(table)).between(start, start + frames)
    waveform = manifest.clip(entry).waveform[: frames * TICK_SAMPLES]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, (_even(tick.frame.image) for tick in pictures), waveform=waveform)
    return path


def _even(image: np.ndarray) -> np.ndarray:
    """Without the last row or column of an odd number, which H.264 cannot hold."""
    height, width = image.shape[:2]
    return image[: height // 2 * 2, : width // 2 * 2]
