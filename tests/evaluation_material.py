"""A drawn triple on disk, small, and dubs of it with known faults: what the tests of evaluation measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from latentsync.data.synthetic import counterfactual, write_clip
from latentsync.evaluation.items import Item, read_times
from latentsync.media.reader import VideoReader

SEED = 907  # of a person who is to say "finds remember", with three closures of the lips
SECONDS, SIZE = 2.0, 192
FPS = 25
QUALITY = 13  # libx264's constant rate factor


def write_triple(folder: Path) -> Path:
    """source.mp4, speech.wav, truth.mp4, truth.json of one drawn person."""
    counterfactual(SEED, seconds=SECONDS, size=SIZE).write(folder)
    return folder


def item(triple: Path, dubbed: Path, **more) -> Item:
    """A dub of the triple with all that is known of it."""
    known = {
        "audio": triple / "speech.wav",
        "source": triple / "source.mp4",
        "truth": triple / "truth.mp4",
        "phonemes": read_times(triple / "truth.json"),
    }
    return Item(dubbed, **{**known, **more})


def pictures(path: Path) -> list[np.ndarray]:
    """All pictures of a file."""
    return [frame.image for frame in VideoReader(path).frames()]


def sound(path: Path) -> np.ndarray:
    """(samples,) of a file."""
    from latentsync.media.audio import read_waveform

    with read_waveform(path) as waveform:
        return waveform.read(0, len(waveform))


def rewrite(
    source: Path,
    out: Path,
    change: Callable[[list[np.ndarray]], Iterable[np.ndarray]] = lambda images: images,
    waveform: np.ndarray | None = None,
    fps: float = FPS,
) -> Path:
    """The pictures of a file, changed, with other sound or none."""
    write_clip(out, change(pictures(source)), waveform=waveform, crf=QUALITY, fps=fps)
    return out


def blurred(images: list[np.ndarray], box: np.ndarray, sigma: float) -> list[np.ndarray]:
    """With the region `box` (left, top, right, bottom px) out of focus."""
    from scipy.ndimage import gaussian_filter

    left, top, right, bottom = box.astype(int)
    made = []
    for image in images:
        soft = image.copy()
        soft[top:bottom, left:right] = gaussian_filter(image[top:bottom, left:right], (sigma, sigma, 0))
        made.append(soft)
    return made
