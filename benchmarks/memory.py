"""Peak memory of dubbing jobs of different length: it should not grow with the length.

Each job runs in a process of its own with one denoising step, for memory does not hang on how often the same step is
taken. Videos are made longer by copying a clip's packets over and over, speech by repeating its samples.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import common
import numpy as np
from av.container import InputContainer, OutputContainer
from job import run_job
from smallest import NAME, checkpoint_path

from latentsync.media.audio import write_wav
from latentsync.types import AUDIO_SAMPLE_RATE

EXAMPLE = "python benchmarks/memory.py --only smallest --scale 0.05"
FOLDER = common.WORK / "memory"
STEPS = 1
GROWTH_TARGET = 1.05  # of the longer job's peak over the shorter's
BEYOND_WEIGHTS_TARGET_MIB = 3 * 1024  # at 1080p
HEADER = (
    "job",
    "minutes",
    "frames",
    "loaded MiB",
    "peak MiB",
    "beyond the weights MiB",
    "wall s",
    "peak / shorter job's",
)


@dataclass(frozen=True)
class Case:
    """A clip dubbed with one network at several lengths."""

    name: str
    checkpoint: str
    clip: str
    speech: str
    minutes: tuple[float, ...]


CASES = (
    Case("smallest network, 458x458", NAME, "infinitetalk_ref_video", "highsync_s35_main", (1, 10)),
    Case("smallest network, 1080x1920", NAME, "latentsync_demo2", "highsync_s35_main", (1, 4)),
    Case("embedded default, 458x458", "embedded", "infinitetalk_ref_video", "highsync_s35_main", (1, 4)),
)


def long_video(name: str, seconds: float) -> Path:
    """A clip's pictures, repeated without encoding until they last `seconds`; mp4 without sound."""
    out = FOLDER / f"{name}-{seconds:g}s.mp4"
    if out.exists():
        return out
    clip = str(common.clip(name))
    with common.made_whole(out) as partial, av.open(clip) as source, av.open(str(partial), "w") as target:
        _repeat(source, target, seconds)
    return out


def _repeat(source: InputContainer, target: OutputContainer, seconds: float) -> None:
    stream = source.streams.video[0]
    copied, time_base = target.add_stream_from_template(stream), Fraction(stream.time_base or 1)
    found = ((packet, packet.pts, packet.dts) for packet in source.demux(stream))
    packets = [(packet, pts, dts) for packet, pts, dts in found if pts is not None and dts is not None]
    length = round(len(packets) / Fraction(stream.average_rate or 25) / time_base)
    for turn in range(math.ceil(seconds / float(length * time_base))):
        for packet, pts, dts in packets:
            packet.pts, packet.dts = pts + turn * length, dts + turn * length
            packet.stream, packet.time_base = copied, time_base
            target.mux(packet)


def long_speech(name: str, seconds: float) -> Path:
    """A clip's speech, repeated until it lasts `seconds` exactly."""
    out = FOLDER / f"{name}-{seconds:g}s.wav"
    if not out.exists():
        speech = np.resize(common.waveform_of(common.clip(name)), round(seconds * AUDIO_SAMPLE_RATE))
        with common.made_whole(out) as partial:
            write_wav(partial, speech, AUDIO_SAMPLE_RATE)
    return out


def measure(case: Case, minutes: float) -> dict[str, Any]:
    """One job."""
    video, audio = long_video(case.clip, 60 * minutes), long_speech(case.speech, 60 * minutes)
    done = run_job(checkpoint_path(case.checkpoint), video, audio, FOLDER / "dub.mp4", {"num_inference_steps": STEPS})
    done.pop("report")
    return {"case": case.name, "minutes": minutes, "frames": len(common.frame_times(FOLDER / "dub.mp4")), **done}


def row(found: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """One table row; `first` is the shortest job of the same case."""
    numbers = [found["loaded_mib"], found["peak_mib"], found["peak_mib"] - found["loaded_mib"], found["seconds"]]
    ratio = f"{found['peak_mib'] / first['peak_mib']:.3f}" if found is not first else ""
    return [found["case"], f"{found['minutes']:g}", str(found["frames"]), *(f"{n:.0f}" for n in numbers), ratio]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--scale", type=float, default=1.0, help="of all lengths, to try the script (default: 1)")
    parser.add_argument("--name", default="memory", help="of the result files (default: memory)")
    return parser.parse_args()


def main() -> None:
    """Dub, measure and write `results/memory.md`."""
    arguments = parse()
    every, lines = [], []
    for case in CASES:
        if arguments.only not in case.name:
            continue
        found = [measure(case, minutes * arguments.scale) for minutes in case.minutes]
        every += found
        lines += [row(job, found[0]) for job in found]
        print(common.table(HEADER, lines), flush=True)
    head = (
        f"# Memory\n\n{common.machine()}\n\n{STEPS} denoising step. Loaded: memory held with libraries and weights. "
        f"Targets: peak of the longer job at most {GROWTH_TARGET} times the shorter's; at 1080p under "
        f"{BEYOND_WEIGHTS_TARGET_MIB} MiB beyond the weights.\n\n"
    )
    common.write_results(arguments.name, head + common.table(HEADER, lines), every)


if __name__ == "__main__":
    main()
