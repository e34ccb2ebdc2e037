"""`latentsync dub`: flags -> `DubbingPipeline`. Defaults live in `DubOptions`; only flags that were given travel."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentsync.cli.checked import CheckedPipeline, CheckFailed, Gate, open_gate
from latentsync.types import InputError

if TYPE_CHECKING:
    from latentsync.faces.detection import LandmarkDetector
    from latentsync.pipelines.dub import DubbingPipeline
    from latentsync.pipelines.report import DubReport

SUMMARY = "Write a video anew, speaking other audio."
EXAMPLES = """examples:
  latentsync dub --video talk.mp4 --audio new.wav --out dubbed.mp4
  latentsync dub --video talk.mp4 --audio new.wav --out dubbed.mp4 --dry-run
  latentsync dub --video two.mp4 --audio new.wav --out dubbed.mkv --face 1 --fit loop --report r.json
  latentsync dub --video talk.mp4 --audio new.wav --out dubbed.mp4 --check --retries 2 --report r.json
  latentsync dub --batch jobs.jsonl
a line of jobs.jsonl (paths from the file's own folder, options as in Python):
  {"video": "talk.mp4", "audio": "new.wav", "out": "dubbed.mp4", "seed": 3, "fit": "hold"}
"""
PATHS = ("video", "audio", "out")
LOADING = (
    "checkpoint",
    "checkpoint_revision",
    "loras",
    "device",
    "dtype",
    "attention",
    "low_memory",
    "landmarks_model",
)
RUNNING = ("batch", "dry_run", "quiet", "debug", "check", "retries", "command", "run", "parser")
FAILED = 1  # exit status where the result does not pass the check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All flags of the command; the public LatentSync command's own spellings are aliases."""
    _add_files(parser.add_argument_group("files"))
    _add_face(parser.add_argument_group("whose mouth"))
    _add_result(parser.add_argument_group("how it looks"))
    _add_check(parser.add_argument_group("quality gate"))
    _add_sampling(parser.add_argument_group("sampling (default: as the checkpoint was made for)"))
    _add_machine(parser.add_argument_group("machine"))


def run(arguments: argparse.Namespace) -> int:
    """Dub one video, or all of a batch file; 1 when jobs of a batch failed, or the result does not pass the check."""
    options = job_options(arguments)
    gate = _gate(arguments, options)
    if arguments.batch is not None:
        return _run_batch(arguments, options, gate)
    paths = [getattr(arguments, name) for name in PATHS]
    missing = [f"--{name}" for name, path in zip(PATHS, paths, strict=True) if path is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be given (see latentsync dub --help)")
    check_job(arguments.video, arguments.audio, arguments.out, options)
    pipeline = load_pipeline(arguments)
    if arguments.dry_run:
        print(pipeline.estimate(*paths, **options).describe())
        return 0
    if gate is None:
        print(summary(pipeline.dub(*paths, progress=not arguments.quiet, **options)))
        return 0
    return _dub_checked(CheckedPipeline(pipeline, gate), paths, {"progress": not arguments.quiet, **options})


def _gate(arguments: argparse.Namespace, options: dict[str, Any]) -> Gate | None:
    """The quality gate where one is wanted; a recognition network without a photo is its alone."""
    if arguments.check is None:
        if arguments.retries:
            raise InputError("--retries goes with --check: without it nothing says when to try again")
        return None
    weights = options.get("identity_weights")
    if "face_photo" not in options:
        options.pop("identity_weights", None)
    return open_gate(arguments.check, arguments.retries, weights)


def _dub_checked(pipeline: CheckedPipeline, paths: list[str], options: dict[str, Any]) -> int:
    try:
        print(f"{summary(pipeline.dub(*paths, **options))}\n  passed the check")
        return 0
    except CheckFailed as error:
        print(f"latentsync: {error}", file=sys.stderr)
        return FAILED


def job_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keyword options of `DubbingPipeline.dub` that were given as flags."""
    known = {*PATHS, *LOADING, *RUNNING}
    return {name: value for name, value in vars(arguments).items() if name not in known}


def load_pipeline(arguments: argparse.Namespace) -> DubbingPipeline:
    """The pipeline as the flags of the group `machine` want it."""
    from latentsync.pipelines.dub import DubbingPipeline

    return DubbingPipeline.from_pretrained(
        arguments.checkpoint,
        revision=arguments.checkpoint_revision,
        loras=arguments.loras,
        device=arguments.device,
        dtype=arguments.dtype,
        attention=arguments.attention,
        low_memory=arguments.low_memory,
        detector=_detector(arguments.landmarks_model),
    )


def check_job(video: str, audio: str, out: str, options: dict[str, Any]) -> None:
    """Look at files and options before any network is loaded, so that a mistake is told within seconds.

    raises: InputError
    """
    from latentsync.media.outputs import check_output
    from latentsync.media.probe import probe_audio, probe_video
    from latentsync.pipelines.options import DubOptions

    probe_video(video)
    probe_audio(audio)
    check_output(out, [video, audio])
    DubOptions.from_mapping(options, "dub")


def summary(report: DubReport) -> str:
    """What happened, in a line; frames left as they were, and what was odd about the input, in further ones."""
    lines = [
        f"{report.out}: {report.frames_dubbed} of {report.frames_out} frames dubbed in {report.total_seconds:.1f} s "
        f"({report.device}, {report.precision})"
    ]
    lines += [f"  {count} frames as they were: {reason}" for reason, count in report.frames_skipped.items()]
    return "\n".join(lines + [f"  {event}" for event in report.events])


def _run_batch(arguments: argparse.Namespace, options: dict[str, Any], gate: Gate | None) -> int:
    given = [name for name in PATHS if getattr(arguments, name) is not None] + list(options)
    if given:
        raise InputError(f"with --batch, {given[0]} belongs into the lines of {arguments.batch}")
    from latentsync.pipelines.batch import read_jobs, run_batch

    jobs = read_jobs(arguments.batch)
    pipeline = load_pipeline(arguments)
    if arguments.dry_run:
        for job in jobs:
            print(f"line {job.line}:", pipeline.estimate(job.video, job.audio, job.out, **job.options).describe())
        return 0
    dub = None if gate is None else CheckedPipeline(pipeline, gate).dub
    result = run_batch(pipeline, arguments.batch, progress=not arguments.quiet, dub=dub)
    print(f"{len(result.done)} dubbed, {len(result.skipped)} done before, {len(result.failed)} failed", file=sys.stderr)
    return result.exit_code


def _detector(landmarks_model: str | None) -> LandmarkDetector | None:
    if landmarks_model is None:
        return None
    from latentsync.faces.detection import LandmarkerTaskDetector

    return LandmarkerTaskDetector(Path(landmarks_model))


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--video", "--video_path", metavar="PATH", help="video with a face")
    group.add_argument("--audio", "--audio_path", metavar="PATH", help="what it shall speak; a video's sound will do")
    group.add_argument("--out", "--video_out_path", metavar="PATH", help="result: .mp4, .mov, .mkv or .webm")
    group.add_argument("--batch", metavar="JOBS.jsonl", help="many jobs, one a line; run again, it goes on")
    group.add_argument("--report", metavar="PATH", default=argparse.SUPPRESS, help="JSON: what happened to each frame")
    group.add_argument("--dry-run", action="store_true", help="tell what would happen, time and memory; write nothing")
    group.add_argument("--quiet", action="store_true", help="no progress")


def _add_face(group: argparse._ArgumentGroup) -> None:
    given = argparse.SUPPRESS
    group.add_argument(
        "--face", metavar="INDEX|X,Y", default=given, help="by size (default 0, the largest) or by a point"
    )
    group.add_argument(
        "--identity-photo", dest="face_photo", metavar="PATH", default=given, help="the face that looks like this one"
    )
    group.add_argument(
        "--identity-weights",
        metavar="PATH",
        default=given,
        help="face recognition network, for --identity-photo and --check",
    )
    group.add_argument("--landmarks-model", metavar="PATH", help="MediaPipe .task file instead of the bundled model")


def _add_result(group: argparse._ArgumentGroup) -> None:
    given = argparse.SUPPRESS
    group.add_argument(
        "--fit", default=given, metavar="cut|loop|pingpong|hold|keep", help="when lengths differ (default cut)"
    )
    group.add_argument(
        "--reference",
        default=given,
        metavar="other|same|PATH",
        help="where the network sees the face: another moment (default), the frame itself, a picture",
    )
    group.add_argument(
        "--region",
        default=given,
        metavar="face|mouth",
        help="taken from the network: the lower face, or mouth and chin alone (default as the checkpoint wants)",
    )
    group.add_argument("--amplitude", type=float, default=given, help="0.5 to 1.5: how far the mouth moves")
    group.add_argument(
        "--no-silence-gate",
        dest="silence_gate",
        action="store_false",
        default=given,
        help="let the mouth move in silence",
    )
    group.add_argument("--quality", default=given, help="of the encoded video (default high)")


def _add_check(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--check",
        nargs="?",
        const="check",
        metavar="LIMITS.yaml",
        help="measure the result, and fail where it is outside the limits (default: configs/check.yaml)",
    )
    group.add_argument(
        "--retries", type=int, default=0, metavar="N", help="further seeds that are tried where it fails (default 0)"
    )


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    given = argparse.SUPPRESS
    group.add_argument(
        "--steps",
        "--num-inference-steps",
        "--inference_steps",
        dest="num_inference_steps",
        type=int,
        default=given,
        metavar="N",
        help="denoising steps",
    )
    group.add_argument("--guidance-scale", "--guidance_scale", type=float, default=given, help="1 = none")
    group.add_argument("--scheduler", default=given, metavar="ddim|dpm++|euler")
    group.add_argument("--seed", type=int, default=given, help="the same seed gives the same bits (default 0)")
    group.add_argument("--overlap", type=int, default=given, metavar="FRAMES", help="shared by neighbouring windows")
    group.add_argument("--batch-size", type=int, default=given, metavar="WINDOWS", help="at once")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--checkpoint",
        "--inference_ckpt_path",
        default="embedded",
        metavar="PATH|NAME",
        help="folder, published .pt file or hub name such as ByteDance/LatentSync-1.5 (default embedded)",
    )
    group.add_argument("--checkpoint-revision", metavar="REVISION", help="of a hub name: branch, tag or commit")
    group.add_argument(
        "--lora",
        dest="loras",
        action="append",
        default=[],
        metavar="PATH[:WEIGHT]",
        help="added to the checkpoint, as `latentsync finetune` wrote it; may be given again",
    )
    group.add_argument("--device", default="auto", metavar="auto|cuda|mps|cpu")
    group.add_argument("--dtype", default="auto", metavar="auto|fp32|bf16|fp16", help="precision of the networks")
    group.add_argument("--attention", default="sdpa", metavar="sdpa|xformers")
    group.add_argument("--low-memory", action="store_true", help="smaller batches, networks on the device when needed")
