"""A dry run: what a job would do, how long it would take and how much memory, without writing anything."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from latentsync.diffusion.amplitude import branches
from latentsync.diffusion.noise import frame_noise
from latentsync.faces.paste import paste_back
from latentsync.pipelines.device import precision_name
from latentsync.pipelines.job import Job
from latentsync.pipelines.networks import Networks
from latentsync.pipelines.report import device_memory_mib, peak_memory_mib
from latentsync.pipelines.scan import Shot
from latentsync.types import WINDOW_FRAMES, InputError

SAMPLE_FRAMES = 250  # from the start of the video; 10 s at 25 frames a second
TIMED_STEPS = 2  # denoising steps that are timed
ENCODE_SECONDS = 8e-9  # for a pixel of H.264 on two cores (0.9 million pixels at 125 to 200 frames a second)
QUEUED_FRAMES = 24  # in the queues, the tracker's lookahead and the encoder's
MIB = 2**20


@dataclass(frozen=True)
class Estimate:
    """What would happen.

    frames: of the output, None where the video does not say; face_share: of `sampled_frames`, from the video's start
    seconds: of the whole job; window_seconds: of one window of 16 frames in the networks
    memory_mib: largest resident size; device_memory_mib: of the CUDA card, None elsewhere
    """

    video: str
    size: tuple[int, int]
    fps: float
    frames: int | None
    device: str
    precision: str
    sampled_frames: int
    face_share: float
    skipped: dict[str, int]
    windows: int | None
    window_seconds: float
    frame_seconds: float
    seconds: float | None
    memory_mib: float | None
    device_memory_mib: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def describe(self) -> str:
        """A few lines for people."""
        skipped = "".join(f"; {count} x {reason}" for reason, count in self.skipped.items())
        card = "" if self.device_memory_mib is None else f", {self.device_memory_mib:.0f} MiB on the card"
        return "\n".join(
            [
                f"{self.video}: {self.size[0]}x{self.size[1]}, {self.fps:.3f} frames/s, {_told(self.frames)} frames",
                f"face to dub in {self.face_share:.0%} of the first {self.sampled_frames} frames{skipped}",
                f"about {_told(self.windows)} windows of {WINDOW_FRAMES} frames, {self.window_seconds:.2f} s each "
                f"on {self.device} in {self.precision}",
                f"about {_duration(self.seconds)} in all, {_told(self.memory_mib)} MiB of memory{card}",
                "nothing was written",
            ]
        )


def estimate(networks: Networks, job: Job) -> Estimate:
    """Read and track the first frames, time one window, and reckon from these.

    raises: InputError when the sample has no frames
    """
    start = time.perf_counter()
    sample = _Sample()
    for shot in itertools.islice(job.shots(), SAMPLE_FRAMES):
        sample.add(shot, networks.mask)
    if not sample.frames:
        raise InputError(f"'{job.info.path}' gives no frames for this audio; check both files.")
    frame_seconds = (time.perf_counter() - start) / sample.frames
    frame_seconds += ENCODE_SECONDS * job.info.width * job.info.height
    window_seconds = time_window(networks, job)
    frames = job.timeline.expected_frames
    share = sample.dubbed / sample.frames
    windows = None if frames is None else -(-round(frames * share) // (WINDOW_FRAMES - job.settings.overlap))
    return Estimate(
        video=str(job.info.path),
        size=(job.info.width, job.info.height),
        fps=float(job.info.fps),
        frames=frames,
        device=str(networks.device),
        precision=precision_name(networks.dtype),
        sampled_frames=sample.frames,
        face_share=share,
        skipped=dict(sample.skipped),
        windows=windows,
        window_seconds=window_seconds,
        frame_seconds=frame_seconds,
        seconds=_total_seconds(networks.device, frames, frame_seconds, windows, window_seconds),
        memory_mib=_memory_mib(job),
        device_memory_mib=device_memory_mib(networks.device),
    )


class _Sample:
    """Counts over the shots looked at; the first one with a face is pasted back once, to time that too."""

    def __init__(self) -> None:
        self.frames = self.dubbed = 0
        self.skipped: Counter[str] = Counter()

    def add(self, shot: Shot, mask: np.ndarray) -> None:
        self.frames += 1
        if shot.crop is None or shot.matrix is None:
            self.skipped[shot.reason] += 1
            return
        self.dubbed += 1
        paste_back(shot.item.frame.image, shot.crop, shot.matrix, mask)


def time_window(networks: Networks, job: Job) -> float:
    """Seconds that one window takes from crops to crops, reckoned from a few of its denoising steps."""
    settings = job.settings
    crops = np.full((WINDOW_FRAMES, networks.resolution, networks.resolution, 3), 127, np.uint8)
    noise = [frame_noise(settings.seed, 0, frame, networks.latent_shape) for frame in range(WINDOW_FRAMES)]
    tokens = job.voice.tokens([0.0] * WINDOW_FRAMES)[None]
    weighted = branches(tokens, networks.silence(), settings.guidance_scale, settings.amplitude)

    def run(steps: int) -> tuple[float, float]:
        start = time.perf_counter()
        masked = networks.encode(crops, masked=True).transpose(0, 1)[None]
        whole = networks.encode(crops, masked=False).transpose(0, 1)[None]
        begun = time.perf_counter()
        latents = networks.denoise(
            settings.make_scheduler, torch.stack(noise, dim=1)[None], masked, whole, weighted, steps
        )
        denoised = time.perf_counter()
        networks.decode(latents[0].transpose(0, 1))
        return denoised - begun, time.perf_counter() - start - (denoised - begun)

    if networks.device.type != "cpu":
        run(1)  # the first call on an accelerator loads its kernels
    steps_seconds, vae_seconds = run(TIMED_STEPS)
    return steps_seconds * settings.num_inference_steps / TIMED_STEPS + vae_seconds


def _total_seconds(
    device: torch.device, frames: int | None, frame_seconds: float, windows: int | None, window_seconds: float
) -> float | None:
    """On an accelerator the networks and the rest of the work run side by side; on the CPU they share its cores."""
    if frames is None or windows is None:
        return None
    around, networks = frames * frame_seconds, windows * window_seconds
    return around + networks if device.type == "cpu" else max(around, networks)


def _memory_mib(job: Job) -> float | None:
    """What the process took so far, with its weights and a window, and the frames that will wait."""
    peak = peak_memory_mib()
    frame = job.info.width * job.info.height * 3 / MIB
    return None if peak is None else peak + frame * (job.settings.most_waiting + QUEUED_FRAMES)


def _told(value: float | None) -> str:
    return "an unknown number of" if value is None else f"{value:.0f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
