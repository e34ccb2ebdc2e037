"""One job's inputs, opened and checked: what is read, what is heard, how it is rendered, where it goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from latentsync.diffusion.schedulers import make_scheduler
from latentsync.faces import alignment
from latentsync.media.audio import SpooledWaveform, read_waveform
from latentsync.media.probe import probe_audio, probe_video
from latentsync.media.reader import VideoReader
from latentsync.media.timeline import Timeline, TimelineFrame
from latentsync.media.timeline import frames as timeline_frames
from latentsync.media.timeline import plan as plan_timeline
from latentsync.media.writer import VideoWriter
from latentsync.pipelines.networks import Networks
from latentsync.pipelines.options import DubOptions
from latentsync.pipelines.progress import Stopwatch
from latentsync.pipelines.render import RenderSettings
from latentsync.pipelines.scan import Chooser, Scanner, SceneCut, Shot, Tracked, Tracker
from latentsync.pipelines.voice import Voice
from latentsync.pipelines.windows import interleaved_sequences
from latentsync.types import InputError, VideoInfo

if TYPE_CHECKING:
    from latentsync.faces.detection import LandmarkDetector

CUDA_BATCH = 4  # windows at once that fill a card; elsewhere one window fills the machine


@dataclass(frozen=True)
class Job:
    """What a job works with."""

    info: VideoInfo
    audio: Path
    reader: VideoReader
    timeline: Timeline
    waveform: SpooledWaveform
    voice: Voice
    settings: RenderSettings
    scanner: Scanner
    options: DubOptions
    watch: Stopwatch
    region: str  # of the face that is shown, see `faces.masks.REGIONS`
    cuts: list[SceneCut]  # found so far, by the product's own tracking

    def shots(self) -> Iterator[Shot]:
        """Frames of the timeline with the face to dub in each."""
        return self.scanner.shots(timeline_frames(self.reader, self.timeline))

    def open_writer(self, out: Path) -> VideoWriter:
        """The encoder of the dubbed file."""
        return VideoWriter(
            out,
            self.info,
            audio=self.audio,
            audio_seconds=self.timeline.audio_seconds,
            quality=self.options.quality,
            keep_sound=self.timeline.fit == "keep",
        )


@contextmanager
def open_job(
    networks: Networks,
    video: Path,
    audio: Path,
    options: DubOptions,
    tracker: Tracker | None = None,
    detector: LandmarkDetector | None = None,
) -> Iterator[Job]:
    """Open the inputs of a job and settle its options.

    tracker, detector: replacements for the default ones
    raises: InputError for inputs that cannot be used
    """
    info = probe_video(video)
    probe_audio(audio)
    watch = Stopwatch()
    cuts: list[SceneCut] = []
    track, chooser = choose_speaker(options, tracker or default_tracker(detector, cuts), detector)
    settings = render_settings(networks, options, float(info.fps), detector)
    region = options.region or networks.settings.defaults.get("region", "face")
    with watch.stage("read audio"):
        waveform = read_waveform(audio)
    with waveform:
        with watch.stage("audio"):
            voice = Voice(networks, waveform, silence_gate=options.silence_gate)
        timeline = plan_timeline(info, waveform.seconds, options.fit)
        scanner = Scanner(track, chooser, networks.resolution, watch)
        reader = VideoReader(video)
        yield Job(info, audio, reader, timeline, waveform, voice, settings, scanner, options, watch, region, cuts)


def render_settings(
    networks: Networks, options: DubOptions, fps: float, detector: LandmarkDetector | None = None
) -> RenderSettings:
    """The options, with the checkpoint's defaults where they leave a choice."""
    defaults, batch = networks.settings.defaults, CUDA_BATCH if networks.device.type == "cuda" else 1
    scheduler = options.scheduler or defaults["scheduler"]
    guidance = options.guidance_scale
    return RenderSettings(
        make_scheduler=partial(make_scheduler, scheduler, networks.settings.scheduler),
        num_inference_steps=options.num_inference_steps or defaults["num_inference_steps"],
        guidance_scale=defaults["guidance_scale"] if guidance is None else guidance,
        amplitude=options.amplitude,
        seed=options.seed,
        overlap=options.overlap,
        batch_size=options.batch_size or (1 if networks.low_memory else batch),
        sequences=interleaved_sequences(fps),
        other_reference=options.reference == "other",
        reference_latents=reference_latents(networks, options.reference, detector),
        context_steadiness=defaults.get("context_steadiness", 0.0),
    )


def reference_latents(
    networks: Networks, reference: str | Path, detector: LandmarkDetector | None
) -> torch.Tensor | None:
    """(4, h, w) latents of the face in an image file; None for `other` and `same`.

    raises: InputError when the file is missing, no picture, or without a face
    """
    if reference in ("other", "same"):
        return None
    crop = reference_crop(Path(reference), detector, networks.resolution)
    return networks.encode(crop[None], masked=False)[0]


def reference_crop(path: Path, detector: LandmarkDetector | None, resolution: int) -> np.ndarray:
    """(r, r, 3) uint8: the largest face in a picture, aligned as the video's faces are."""
    image = read_picture(path)
    finder = detector or _default_detector()
    finder.reset()
    found = finder.detect(image)
    if not found:
        raise InputError(f"'{path}' shows no face; give a picture with a face seen from the front.")
    largest, _ = found[0]
    matrix = alignment.Aligner(resolution).matrix(alignment.anchor_points(largest))
    return alignment.crop(image, matrix, resolution)


def read_picture(path: Path) -> np.ndarray:
    """(h, w, 3) uint8 RGB of an image file of any common kind. InputError when it is not one."""
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(
            f"The reference '{path}' cannot be read ({error.strerror}); give other, same or an image file."
        ) from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise InputError(f"'{path}' is not a picture; give a jpeg or png file with a face.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def default_tracker(detector: LandmarkDetector | None, cuts: list[SceneCut]) -> Tracker:
    """The product's face tracking. cuts: takes the scene cuts as they are found."""

    def note(item: TimelineFrame) -> None:
        cuts.append(SceneCut(item.out_index, item.out_time))

    def track(frames: Iterable[TimelineFrame]) -> Iterator[Tracked]:
        from latentsync.faces.tracking import track as track_faces

        finder = detector or _default_detector()
        finder.reset()
        return track_faces(frames, finder, on_cut=note)

    return track


def choose_speaker(
    options: DubOptions, tracker: Tracker, detector: LandmarkDetector | None = None
) -> tuple[Tracker, Chooser]:
    """Who speaks: by photo where one is given, else by place; and the tracker, watched where a photo needs it.

    raises: InputError for a photo without a face, CheckpointError for unusable recognition weights
    """
    if options.face_photo is None or options.identity_weights is None:
        from latentsync.faces.tracking import SpeakerChooser

        return tracker, SpeakerChooser(options.face)
    from latentsync.faces.identity import IdentityMatcher

    matcher = IdentityMatcher(Path(options.identity_weights), Path(options.face_photo), detector)
    return lambda frames: cast("Iterator[Tracked]", matcher.watch(tracker(frames))), matcher


def _default_detector() -> LandmarkDetector:
    from latentsync.faces.detection import default_detector

    return default_detector()
