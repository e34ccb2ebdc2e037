"""Short drawn speakers on disk for the tests of preparation, and the same videos as a shard."""

from __future__ import annotations

import io
import json
import tarfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from latentsync.data.synthetic import Speech, SyntheticSpeaker, synthesize_speech, write_clip

SIZE = 160  # px
SECONDS = 1.6  # 40 frames


@lru_cache(maxsize=4)
def spoken(seed: int) -> tuple[list[np.ndarray], Speech]:
    """Frames (160, 160, 3) of one identity and what it says."""
    speech = synthesize_speech(seed, seconds=SECONDS)
    return list(SyntheticSpeaker(seed, SIZE).frames(speech, seed)), speech


def write_speaker(path: Path, seed: int, *, sound: bool = True, fps: float = 25.0) -> Path:
    """A clip of one drawn speaker."""
    frames, speech = spoken(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, frames, waveform=speech.waveform if sound else None, fps=fps)
    return path


def write_faceless(path: Path, seed: int) -> Path:
    """Sound of a speaker over a picture without a face that moves."""
    frames, speech = spoken(seed)
    ramp = np.linspace(60, 200, SIZE).astype(np.uint8)
    picture = np.repeat(np.tile(ramp, (SIZE, 1))[:, :, None], 3, axis=2)
    write_clip(path, [np.roll(picture, 2 * n, axis=1) for n in range(len(frames))], waveform=speech.waveform)
    return path


def write_shard(path: Path, samples: dict[str, tuple[bytes, dict[str, str]]]) -> Path:
    """A tar of KEY.mp4 and KEY.json."""
    with tarfile.open(path, "w") as archive:
        for key, (video, facts) in samples.items():
            for suffix, content in ((".json", json.dumps(facts).encode()), (".mp4", video)):
                member = tarfile.TarInfo(key + suffix)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path
