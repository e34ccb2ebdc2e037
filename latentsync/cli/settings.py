"""The four settings that a checkpoint is measured in: its own audio, another's, silence and noise."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentsync.types import AUDIO_SAMPLE_RATE, InputError

if TYPE_CHECKING:
    from latentsync.evaluation.items import Item

NOISE_LEVEL = 10 ** (-26 / 20)  # root mean square over full scale, as loud as speech is recorded
NOISE_SEED = 0


def dub_settings(arguments: argparse.Namespace) -> list[Item]:
    """Dub `--video` in all settings, into a folder for the checkpoint's bytes and the seed; what is there stays.

    InputError: the video has no sound of its own, or as `DubbingPipeline.dub`.
    """
    from latentsync.evaluation.items import CROSS, NOISE, RECONSTRUCTION, SILENT, Item
    from latentsync.media.probe import probe_video
    from latentsync.pipelines.dub import DubbingPipeline

    video, audio = Path(arguments.video), Path(arguments.audio)
    if not probe_video(video).has_audio:
        raise InputError(f"'{video}' has no sound, which the setting `reconstruction` needs; give a video that has")
    pipeline = DubbingPipeline.from_pretrained(arguments.checkpoint, device=arguments.device)
    folder = Path(arguments.out) / "dubs" / _key(pipeline.components.digest, video, audio, arguments.seed)
    folder.mkdir(parents=True, exist_ok=True)
    sounds = {RECONSTRUCTION: video, CROSS: audio, **_without_speech(audio, folder, SILENT, NOISE)}
    items = []
    for setting, sound in sounds.items():
        name = setting.split()[0]
        out, report = folder / f"{name}.mp4", folder / f"{name}.json"
        if not (out.exists() and report.exists()):
            print(f"setting {len(items) + 1} of {len(sounds)}: {setting}", file=sys.stderr, flush=True)
            pipeline.dub(video, sound, out, seed=arguments.seed, report=report)
        items.append(Item(out, sound, video, dub_report=report, setting=setting, name=video.stem))
    return items


def _key(digest: str, video: Path, audio: Path, seed: int) -> str:
    """A short name of all that the dubs are a function of."""
    facts = [digest, seed, *((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (video, audio))]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _without_speech(audio: Path, folder: Path, silent: str, noise: str) -> dict[str, Path]:
    """Files of silence and of white noise, each as long as `audio`."""
    from latentsync.media.audio import read_waveform, write_wav

    with read_waveform(audio) as waveform:
        samples = len(waveform)
    hiss = NOISE_LEVEL * np.random.default_rng(NOISE_SEED).standard_normal(samples)
    paths = {}
    for setting, sound in ((silent, np.zeros(samples)), (noise, hiss)):
        paths[setting] = folder / f"{setting.split()[0]}.wav"
        write_wav(paths[setting], sound.astype(np.float32), AUDIO_SAMPLE_RATE)
    return paths
