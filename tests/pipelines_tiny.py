"""Tiny real networks with random weights, and small videos whose face's place is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import torch
from models_tiny_vae import tiny_vae

from latentsync.audio.features import FeatureStream, WaveformSource, local_stream
from latentsync.faces.alignment import LEFT_BROW, NOSE, RIGHT_BROW
from latentsync.media.audio import write_wav
from latentsync.media.timeline import TimelineFrame
from latentsync.models.unet import LatentSyncUNet
from latentsync.pipelines.dub import DubbingPipeline
from latentsync.pipelines.scan import Tracked
from latentsync.types import AUDIO_SAMPLE_RATE, FEATURE_RATE, Face

RESOLUTION = 32
WIDTH, HEIGHT = 96, 80
FACE_CENTRE, FACE_SCALE = (48.0, 40.0), 0.5
SAMPLES_A_ROW = round(AUDIO_SAMPLE_RATE / FEATURE_RATE)


class LevelEncoder(torch.nn.Module):
    """An audio encoder whose rows are the loudness of 20 ms."""

    width, levels, rate = 8, 1, FEATURE_RATE

    def stream(self, source: WaveformSource) -> FeatureStream:
        def compute(start: int, stop: int) -> torch.Tensor:
            samples = source.read(start * SAMPLES_A_ROW, stop * SAMPLES_A_ROW).reshape(-1, SAMPLES_A_ROW)
            level = torch.from_numpy(np.sqrt(np.square(samples).mean(axis=1)))
            return level[:, None, None] * torch.linspace(1, 2, self.width)

        return local_stream(max(1, len(source) // SAMPLES_A_ROW), compute, margin=0)

    def encode(self, waveform: np.ndarray) -> torch.Tensor:
        raise NotImplementedError


def tiny_components(seed: int = 0) -> SimpleNamespace:
    """What `hub.load_components` returns, with random weights; 32 px crops, 8x8 latents."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = LatentSyncUNet(
            block_out_channels=(32, 32),
            down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion"),
            layers_per_block=1,
            cross_attention_dim=LevelEncoder.width,
            num_attention_heads=2,
            motion_num_attention_heads=2,
        )
        vae = tiny_vae()
    settings = SimpleNamespace(
        resolution=RESOLUTION,
        fps=25.0,
        window_frames=16,
        scheduler={"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        defaults={"num_inference_steps": 2, "guidance_scale": 1.5, "scheduler": "ddim"},
    )
    return SimpleNamespace(unet=unet, vae=vae, audio_encoder=LevelEncoder(), settings=settings, digest=f"random-{seed}")


def landmarks(centre: tuple[float, float] = FACE_CENTRE, scale: float = FACE_SCALE) -> np.ndarray:
    """(478, 2) points that align to an upright face around `centre`; all but the anchors lie on its outline."""
    angle = np.linspace(0, 2 * np.pi, 478)
    points = np.stack([37.0 * np.cos(angle), 20.0 + 50.0 * np.sin(angle)], axis=-1)
    for places, offset in ((LEFT_BROW, (-20.5, -10.0)), (RIGHT_BROW, (20.5, -10.0)), (NOSE, (0.0, 10.0))):
        points[list(places)] = offset
    return (points * scale + centre).astype(np.float32)


def found_face(track: int = 0, centre: tuple[float, float] = FACE_CENTRE) -> Face:
    """A face of about 60 px around `centre`."""
    x, y = centre
    return Face((x - 25, y - 30, x + 25, y + 30), landmarks(centre), track)


def known_tracker(track_of: Callable[[int], int | None] = lambda index: 0):
    """A tracker that knows: number of the source frame -> number of the track, None where there is no face."""

    def track(frames: Iterable[TimelineFrame]) -> Iterator[Tracked]:
        for item in frames:
            number = track_of(item.frame.index) if item.dub else None
            yield (item, [], "no face") if number is None else (item, [found_face(number)], "")

    return track


class KnownDetector:
    """A landmark detector that always finds the same face."""

    def reset(self) -> None:
        """Nothing to forget."""

    def detect(self, image: np.ndarray) -> list[tuple[np.ndarray, float]]:
        return [(landmarks(), 1.0)]


def pipeline(track_of: Callable[[int], int | None] = lambda index: 0, **changes) -> DubbingPipeline:
    """Tiny networks on the CPU behind a tracker that knows."""
    changes = {"tracker": known_tracker(track_of), "detector": KnownDetector(), **changes}
    return DubbingPipeline(tiny_components(), **{"device": "cpu", "dtype": "fp32", "name": "tiny", **changes})


def write_video(path: Path, frames: int, fps: int = 25, size: tuple[int, int] = (WIDTH, HEIGHT), seed: int = 5) -> Path:
    """A soft texture that moves slowly."""
    width, height = size
    cells = (
        np.random.default_rng(seed)
        .uniform(40, 215, (height // 8 + 2, width // 8 + 2 + frames // 8, 1))
        .repeat(3, axis=2)
    )
    texture = cv2.resize(cells, (cells.shape[1] * 8, cells.shape[0] * 8), interpolation=cv2.INTER_LINEAR)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            picture = texture[:height, index : index + width].astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_speech(path: Path, seconds: float) -> Path:
    """Bursts of noise, three a second."""
    times = np.arange(round(seconds * AUDIO_SAMPLE_RATE)) / AUDIO_SAMPLE_RATE
    noise = np.random.default_rng(6).standard_normal(len(times))
    write_wav(path, (0.2 * noise * (np.sin(2 * np.pi * 3 * times) > 0)).astype(np.float32), AUDIO_SAMPLE_RATE)
    return path


def decoded(path: Path) -> np.ndarray:
    """(f, h, w, 3) uint8: all pictures of a video."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def times(path: Path) -> list[float]:
    """Presentation times of all pictures, seconds."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]
