"""`latentsync demo`: dubs the example that comes with the package and scores the mouth against the true one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from latentsync.config import resource

SUMMARY = "Dub the example clip, say where to look, and score the mouth against the true one."
EXAMPLES = """examples:
  latentsync demo
  latentsync demo --checkpoint my-checkpoint --out compared
"""
SCALE = "a perfect dub has 1.00 / 0.00, the clip as it was 0.00 / 1.00"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the result goes, and what makes it."""
    parser.add_argument("--out", default="outputs/demo", metavar="FOLDER", help="default outputs/demo")
    parser.add_argument("--checkpoint", default="embedded", metavar="PATH|NAME", help="default embedded")


def run(arguments: argparse.Namespace) -> int:
    """Dub and tell."""
    from latentsync.pipelines.dub import DubbingPipeline

    example, folder = resource("examples"), Path(arguments.out)
    talk, speech, dubbed = example / "talk.mp4", example / "speech.wav", folder / "dubbed.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = DubbingPipeline.from_pretrained(arguments.checkpoint)
    report = pipeline.dub(talk, speech, dubbed, report=folder / "report.json")
    target, leak = score(dubbed, talk, example / "truth.json")
    print(f"before:  {talk}")
    print(f"after:   {dubbed} ({report.frames_dubbed} of {report.frames_out} frames in {report.total_seconds:.0f} s)")
    print(f"report:  {report.report}")
    print(f"mouth:   follows the new speech {target:.2f}, still follows the old one {leak:.2f} ({SCALE})")
    return 0


def score(dubbed: Path, talk: Path, truth: Path) -> tuple[float, float]:
    """(`r_target`, `r_leak`) of a dub of the example: lip gaps of both videos, and the true ones of the speech."""
    import numpy as np

    from latentsync.evaluation.articulation import r_target_and_leak
    from latentsync.evaluation.mouths import mouth_track

    true_gaps = np.array(json.loads(truth.read_text(encoding="utf-8"))["speech"]["lip_gap"])
    return r_target_and_leak(mouth_track(dubbed).gaps, true_gaps, mouth_track(talk).gaps)
