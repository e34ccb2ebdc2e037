"""Dubs for the benchmark scripts: the options they share, and files made once for a checkpoint's exact bytes."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import common
from smallest import checkpoint_path

from latentsync.media.audio import write_wav
from latentsync.types import AUDIO_SAMPLE_RATE


def add_dub_options(parser: argparse.ArgumentParser) -> None:
    """The checkpoint and what of the sampler a benchmark may change."""
    parser.add_argument(
        "--checkpoint", default="embedded", help="folder, file, name, or `smallest`: random weights (default: embedded)"
    )
    parser.add_argument("--steps", type=int, help="denoising steps (default: the checkpoint's)")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the checkpoint's)")
    parser.add_argument("--seed", type=int, default=0)


def dub_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `DubbingPipeline.dub` that were given."""
    given = {
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance,
        "seed": arguments.seed,
    }
    return {name: value for name, value in given.items() if value is not None}


class Dubber:
    """Dubs with one checkpoint, loaded when it is first needed; a dub that is there already is not made again."""

    def __init__(self, checkpoint: str, **options: Any) -> None:
        from latentsync import DubbingPipeline

        self.checkpoint, self.options = checkpoint, options
        self.pipeline = DubbingPipeline.from_pretrained(checkpoint_path(checkpoint))
        self.digest = self.pipeline.components.digest

    def __call__(self, video: Path, audio: Path, name: str, **more: Any) -> Path:
        """Path of `video` speaking `audio`; `name` tells the dub from others of the same checkpoint and options."""
        options = {**self.options, **more}
        out = common.WORK / "dubs" / self.key(**more) / f"{name}.mp4"
        if not out.exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            self.pipeline.dub(video, audio, out, progress=False, **options)
        return out

    def key(self, **more: Any) -> str:
        """A short name of the checkpoint's bytes and all options."""
        text = json.dumps([self.digest, {**self.options, **more}], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def speech_of(path: Path, seconds: float) -> Path:
    """The first `seconds` of a clip's audio as a wav file."""
    out = common.WORK / "speech" / f"{path.stem}-{seconds:g}s.wav"
    if not out.exists():
        with common.made_whole(out) as partial:
            write_wav(partial, common.waveform_of(path, seconds), AUDIO_SAMPLE_RATE)
    return out
