"""Dub clips of different size, frame rate, codec and container, and list what happened to each.

Frames in and out, frame rate, place of the audio, PSNR where nothing may change, seconds by stage, peak memory; and a
contact sheet of each to look at, in runs/benchmarks/dub_clips.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from dubs import add_dub_options, dub_options
from job import run_job
from smallest import checkpoint_path

from latentsync.evaluation.quality import compare
from latentsync.evaluation.sheets import contact_sheet
from latentsync.evaluation.timing import audio_offset
from latentsync.media.audio import write_wav
from latentsync.media.probe import probe_audio, probe_video
from latentsync.types import AUDIO_SAMPLE_RATE

EXAMPLE = "python benchmarks/dub_clips.py --seconds 1 --steps 1 --only face1"
FOLDER = common.WORK / "dub_clips"
HEADER = (
    *(
        "clip",
        "in: codec, size",
        "fps in > out (largest shift of a frame)",
        "frames in > wanted > out",
        "audio in > out",
        "audio offset ms",
    ),
    *("PSNR outside dB", "frames not dubbed", "seconds by stage", "wall s", "memory: loaded > peak MiB"),
)


@dataclass(frozen=True)
class Job:
    """A clip, the clips whose speech it gets one after the other, and the container of the dub."""

    video: str
    speech: tuple[str, ...]
    suffix: str


JOBS = (
    Job("latentsync_demo2", ("edtalk_uncrop_Obama",), ".mp4"),  # portrait 1080x1920 HEVC, 20 s
    Job("videoretalking_face1", ("real3dportrait_May_5s",), ".mp4"),  # 22.13 fps
    Job("syncnet_example", ("highsync_s17_main",), ".mkv"),  # MPEG-4 part 2 in AVI
    Job("av2av_src_11", ("videoretalking_face5_hq",), ".webm"),  # VP9 in WebM
    Job("infinitetalk_ref_video", ("highsync_s35_main",), ".mov"),  # 15 s
    Job("edtalk_pose_source2", ("highsync_s35_main", "latentsync_demo2", "edtalk_uncrop_Obama"), ".mp4"),  # 60 s
)


def speech_file(job: Job, seconds: float | None) -> Path:
    """The audio file of a job: a clip as it is, or a wav of several or of the first `seconds`."""
    if len(job.speech) == 1 and seconds is None:
        return common.clip(job.speech[0])
    out = FOLDER / f"{job.video}-{'whole' if seconds is None else f'{seconds:g}s'}.wav"
    out.parent.mkdir(parents=True, exist_ok=True)
    speech = np.concatenate([common.waveform_of(common.clip(name)) for name in job.speech])
    write_wav(out, speech[: None if seconds is None else round(seconds * AUDIO_SAMPLE_RATE)], AUDIO_SAMPLE_RATE)
    return out


def measure(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Dub one clip in a process of its own and measure the file."""
    video, audio = common.clip(job.video), speech_file(job, arguments.seconds)
    out = FOLDER / f"{job.video}-dub{job.suffix}"
    done = run_job(checkpoint_path(arguments.checkpoint), video, audio, out, dub_options(arguments))
    mouths = common.mouths_of(video)
    pictures = compare(video, out, mouths)
    contact_sheet([video, out], mouths, FOLDER / f"{job.video}.png")
    offset = audio_offset(out, audio)
    return {
        **facts(video, audio, out),
        "frames_in": len(mouths.times),
        "frames_wanted": int((mouths.times < (probe_audio(audio).duration or np.inf)).sum()),
        **rates(mouths.times, common.frame_times(out)),
        "offset_ms": 1000 * offset.seconds,
        "agreement": offset.agreement,
        "psnr_outside": pictures.psnr_outside,
        **done,
    }


def rates(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """How the dub's frames lie in time, beside the source's; before, after: (f,) seconds."""
    both = min(len(before), len(after))
    return {
        "fps": [(len(times) - 1) / float(times[-1]) for times in (before, after)],
        "shift_ms": 1000 * float(np.abs(before[:both] - after[:both]).max()),
        "frames_out": len(after),
    }


def facts(video: Path, audio: Path, out: Path) -> dict[str, Any]:
    """What the containers say of the files."""
    before, given, written = probe_video(video), probe_audio(audio), probe_audio(out)
    return {
        "clip": video.name,
        "picture": f"{before.codec} {before.width}x{before.height}",
        "audio": [f"{sound.codec} {sound.sample_rate} Hz x{sound.channels}" for sound in (given, written)],
    }


def row(found: dict[str, Any]) -> list[str]:
    """One table row."""
    report = found["report"]
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report["seconds"].items())
    skipped = ", ".join(f"{count} ({why})" for why, count in report["frames_skipped"].items())
    return [
        found["clip"],
        found["picture"],
        " > ".join(f"{fps:.2f}" for fps in found["fps"]) + f" ({found['shift_ms']:.1f} ms)",
        f"{found['frames_in']} > {found['frames_wanted']} > {found['frames_out']}",
        " > ".join(found["audio"]),
        f"{found['offset_ms']:.2f} (r {found['agreement']:.3f})",
        f"{found['psnr_outside']:.1f}",
        skipped or "none",
        stages,
        f"{found['seconds']:.0f}",
        f"{found['loaded_mib']:.0f} > {found['peak_mib']:.0f}",
    ]


def main() -> None:
    """Dub, measure and write `results/dub_clips.md`."""
    parser = common.parser(__doc__, EXAMPLE)
    add_dub_options(parser)
    parser.add_argument("--only", help="clips whose name holds this text")
    parser.add_argument("--seconds", type=float, help="of the speech, and so of the dub (default: all)")
    parser.add_argument("--name", default="dub_clips", help="of the result files (default: dub_clips)")
    arguments = parser.parse_args()
    found = []
    for job in JOBS:
        if arguments.only is None or arguments.only in job.video:
            found.append(measure(job, arguments))
            print(common.table(HEADER, [row(found[-1])]), flush=True)
    head = (
        f"# Dubbed clips\n\nCheckpoint `{Path(arguments.checkpoint).name}`, options {dub_options(arguments)}\n\n"
        f"{common.machine()}\n\nWanted: frames of the source that begin before the speech ends (`--fit cut`). "
        "Stages run side by side, so their seconds add up to more than the wall's.\n\n"
    )
    common.write_results(arguments.name, head + common.table(HEADER, map(row, found)), found)


if __name__ == "__main__":
    main()
