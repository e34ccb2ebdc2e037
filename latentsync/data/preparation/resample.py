"""Stage 2: the clock of the networks, 25 pictures a second and 16 kHz, without encoding anything again.

Pictures are not resampled but chosen: a table says which picture of the source lies nearest in time to every tick of
1/25 s. So no picture loses sharpness, and none is more than half a source frame away from its sound.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from latentsync.data.preparation.store import Dropped, write_array
from latentsync.media.audio import read_waveform
from latentsync.media.decoder import PictureDecoder
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS

TICK_SAMPLES = int(AUDIO_SAMPLE_RATE / MODEL_FPS)  # 640 samples of sound to one picture
FEWEST_PICTURES = 0.55  # of the ticks that show a picture of their own: 15 a second pass, 12.5 do not
MOST_DAMAGED = 0.02  # share of the pictures that may be stand-ins for ones that did not decode
SLACK = 1e-6  # seconds, above the rounding of float times


def resample(path: Path, ticks_file: Path, sound_file: Path) -> dict[str, Any]:
    """Write the table of pictures, (ticks,) int32, and the sound, (samples,) float32 at 16 kHz, whose first sample
    belongs to the first picture; both end where the shorter of the two ends.

    Returns {ticks, pictures, damaged}. Dropped where too few pictures a second are shown or too many are damaged.
    """
    ticks, waveform, counts = on_the_clock(path)
    write_array(ticks_file, ticks)
    write_array(sound_file, waveform)
    return counts


def on_the_clock(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """What `resample` writes, and what it returns. Dropped as there."""
    times, end, damaged = picture_times(path)
    with read_waveform(path) as sound:
        waveform = sound.read(0, len(sound))
    ticks = tick_table(times, min(end, len(waveform) / AUDIO_SAMPLE_RATE))
    shown = len(np.unique(ticks))
    if damaged > MOST_DAMAGED * len(times):
        raise Dropped("damaged pictures", f"{damaged} of {len(times)} did not decode")
    if shown < FEWEST_PICTURES * len(ticks):
        raise Dropped("too few pictures a second", f"{shown} in {len(ticks) / MODEL_FPS:.2f} s")
    counts = {"ticks": len(ticks), "pictures": len(times), "damaged": damaged}
    return ticks, waveform[: len(ticks) * TICK_SAMPLES], counts


def tick_table(times: np.ndarray, end: float) -> np.ndarray:
    """(ticks,) int32: for every 1/25 s before `end`, which of the pictures at `times` (n,) seconds lies nearest."""
    ticks = np.arange(int((end + SLACK) * MODEL_FPS)) / MODEL_FPS
    return np.searchsorted((times[1:] + times[:-1]) / 2, ticks - SLACK).astype(np.int32)


def picture_times(path: Path) -> tuple[np.ndarray, float, int]:
    """(n,) seconds after the first picture, where the last one ends, and how many are stand-ins. Dropped where no
    picture decodes."""
    decoder = PictureDecoder(path)
    spans = [(picture.time, picture.duration) for picture in decoder.pictures()]
    if not spans:
        raise Dropped("cannot be read", "no picture decodes")
    origin, (last, duration) = spans[0][0], spans[-1]
    times = np.array([float(time - origin) for time, _ in spans])
    return times, float(last + duration - origin), decoder.damage.broken
