"""The public pipeline: a video and other audio in, the same video speaking that audio out."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latentsync.media.outputs import check_output
from latentsync.pipelines import estimate as estimating
from latentsync.pipelines.compose import Composer
from latentsync.pipelines.device import choose_device, choose_dtype, precision_name
from latentsync.pipelines.job import Job, open_job
from latentsync.pipelines.networks import Networks
from latentsync.pipelines.options import DubOptions
from latentsync.pipelines.progress import ProgressReporter
from latentsync.pipelines.render import Renderer
from latentsync.pipelines.report import DubReport, FrameLog, device_memory_mib, peak_memory_mib, versions
from latentsync.pipelines.scan import Tracker
from latentsync.pipelines.stream import Crew
from latentsync.types import InputError

if TYPE_CHECKING:
    from latentsync.faces.detection import LandmarkDetector
    from latentsync.hub import Components

SHOTS_AHEAD = 8  # frames that reading and tracking may run ahead of the networks
FRAMES_BEHIND = 8  # frames that pasting and writing may lie behind them
FileName = str | os.PathLike[str]


class DubbingPipeline:
    """Networks in place, ready for any number of jobs.

    >>> pipeline = DubbingPipeline.from_pretrained("embedded")
    >>> report = pipeline.dub("talk.mp4", "new.wav", "dubbed.mp4", seed=1)
    """

    def __init__(
        self,
        components: Components,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        attention: str = "sdpa",
        low_memory: bool = False,
        name: str = "",
        detector: LandmarkDetector | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        """components: the loaded checkpoint; name: what reports call it

        detector: finds landmarks, None takes the default; tracker: replaces tracking altogether
        raises: InputError for a device, precision or attention that cannot be used here
        """
        place = choose_device(device)
        self.networks = Networks(components, place, choose_dtype(place, dtype), attention, low_memory)
        self.components, self.name = components, name
        self._detector, self._tracker = detector, tracker

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: FileName = "embedded",
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        attention: str = "sdpa",
        low_memory: bool = False,
        revision: str | None = None,
        resolution: int | None = None,
        detector: LandmarkDetector | None = None,
        loras: Sequence[str] = (),
    ) -> DubbingPipeline:
        """Load a checkpoint: `embedded`, a published `.pt`, a folder, or a hub name (at a revision).

        device: cuda, mps or cpu; dtype: fp32, bf16 or fp16; None or auto chooses. attention: sdpa or xformers.
        low_memory: smaller batches, networks on the device only while they work.
        resolution: side of the face crops in pixels; another than the checkpoint's own warns.
        detector: of face landmarks; None takes the default.
        loras: folders that fine-tuning wrote, each `PATH` or `PATH:WEIGHT`, added to the checkpoint.
        raises: CheckpointError, InputError
        """
        from latentsync.hub import load_components
        from latentsync.hub.loras import with_loras

        place = choose_device(device)  # before the weights are read, so that a wrong name is told at once
        components = with_loras(load_components(name_or_path, revision=revision, resolution=resolution), loras)
        return cls(
            components,
            device=str(place),
            dtype=dtype,
            attention=attention,
            low_memory=low_memory,
            name=" + ".join([os.fspath(name_or_path), *loras]),
            detector=detector,
        )

    def dub(self, video: FileName, audio: FileName, out: FileName, **options: Any) -> DubReport:
        """Write `out`: the frames of `video` with mouths that speak `audio`.

        options: the fields of `DubOptions`, by name
        raises: InputError for what cannot be used; then, and whenever the job is interrupted, no `out` is written
        """
        start = time.perf_counter()
        wanted = DubOptions.from_mapping(options)
        check_paths(video, audio, out, wanted.report)
        report = self._blank_report(video, audio, out, wanted)
        with self._open(video, audio, wanted) as job, ExitStack() as stack:
            log = stack.enter_context(FrameLog(wanted.report)) if wanted.report else None
            self._stream(job, Path(out), wanted, log, report)
            self._complete(report, job, time.perf_counter() - start)
            if log is not None:
                log.finish(report)
        return report

    def estimate(self, video: FileName, audio: FileName, out: FileName, **options: Any) -> estimating.Estimate:
        """What `dub` would do, and about how long and in how much memory; writes nothing.

        Tracks the faces of the video's first seconds and times one window of the networks.
        raises: InputError as `dub` would, as far as it can be known
        """
        wanted = DubOptions.from_mapping(options)
        check_paths(video, audio, out, wanted.report)
        with self._open(video, audio, wanted) as job:
            return estimating.estimate(self.networks, job)

    def _open(self, video: FileName, audio: FileName, options: DubOptions) -> AbstractContextManager[Job]:
        return open_job(self.networks, Path(video), Path(audio), options, self._tracker, self._detector)

    def _stream(self, job: Job, out: Path, options: DubOptions, log: FrameLog | None, report: DubReport) -> None:
        """Run the three threads until the last frame is written."""
        progress = ProgressReporter(options.progress, job.timeline.expected_frames)
        renderer = Renderer(self.networks, job.settings, job.voice, job.watch)
        ended = "stopped"
        try:
            with job.open_writer(out) as writer:
                composer = Composer(writer, self.networks.mask, job.region, log, job.watch, progress)
                self._pump(job, renderer, composer)
                composer.counts.fill(report)
                report.events = writer.events
                if not composer.counts.dubbed:
                    raise InputError(no_face(job.info.path, report.frames_skipped))
            ended = "done"
        finally:
            progress.close(ended)

    def _pump(self, job: Job, renderer: Renderer, composer: Composer) -> None:
        # The same seed must give the same bits, so cuDNN may not choose its kernels by timing them.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True), Crew() as crew:
            shots = crew.prefetch(job.shots(), SHOTS_AHEAD)
            done = crew.drain(composer.take, FRAMES_BEHIND)
            for shot in shots:
                for slot in renderer.feed(shot):
                    done.put(slot)
            for slot in renderer.finish():
                done.put(slot)

    def _blank_report(self, video: FileName, audio: FileName, out: FileName, options: DubOptions) -> DubReport:
        return DubReport(
            video=os.fspath(video),
            audio=os.fspath(audio),
            out=os.fspath(out),
            checkpoint=self.name,
            checkpoint_digest=self.components.digest,
            device=str(self.networks.device),
            precision=precision_name(self.networks.dtype),
            options=options.as_json(),
            report=None if options.report is None else os.fspath(options.report),
        )

    def _complete(self, report: DubReport, job: Job, seconds: float) -> None:
        report.fps = float(job.info.fps)
        report.events += [*job.waveform.events, *job.reader.events]
        report.scene_cuts = job.cuts
        report.seconds = {stage: round(spent, 3) for stage, spent in job.watch.seconds.items()}
        report.total_seconds = round(seconds, 3)
        report.peak_memory_mib = peak_memory_mib()
        report.peak_device_memory_mib = device_memory_mib(self.networks.device)
        report.versions = versions()


def check_paths(video: FileName, audio: FileName, out: FileName, report: FileName | None) -> None:
    """raises: InputError when an output cannot be written at its place, or would replace another file of the job"""
    check_output(out, [video, audio])
    if report is None:
        return
    target = Path(report)
    if not target.parent.is_dir():
        raise InputError(f"The folder of the report '{target}' does not exist; make it first or choose another.")
    for other in (Path(video), Path(audio), Path(out)):
        if target.absolute() == other.absolute() or (target.exists() and other.exists() and target.samefile(other)):
            raise InputError(f"The report '{target}' is the same file as '{other}'; choose another name.")


def no_face(video: Path, skipped: Mapping[str, int]) -> str:
    """The sentence for a video in which nothing could be dubbed."""
    reasons = ", ".join(f"{reason} ({count} frames)" for reason, count in skipped.items()) or "it gave no frames"
    return f"'{video}' has no face that can be dubbed: {reasons}; choose another face, or a video that shows one."
