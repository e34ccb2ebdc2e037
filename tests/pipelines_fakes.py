"""Small stand-ins for the pipeline's tests: shots that carry their number, networks that can be followed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from latentsync.media.timeline import TimelineFrame
from latentsync.pipelines.scan import Shot
from latentsync.types import Face, Frame

RESOLUTION = 16
LATENT = 4  # side of a latent picture
FPS = 25.0


def face(track: int, centre: tuple[float, float] = (32.0, 32.0), size: float = 24.0) -> Face:
    """A face whose landmarks are spread evenly over its box."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 2)) * size + centre
    x, y = centre
    return Face((x - size / 2, y - size / 2, x + size / 2, y + size / 2), points.astype(np.float32), track)


def item(index: int, *, fps: float = FPS, joint: bool = False, dub: bool = True, side: int = 64) -> TimelineFrame:
    """Frame `index` of a video whose grey level tells the frame's number."""
    image = np.full((side, side, 3), index % 251, np.uint8)
    return TimelineFrame(Frame(index, index / fps, image), index, index / fps, joint, dub)


def shots(tracks: Iterable[int | None], fps: float = FPS) -> Iterator[Shot]:
    """A shot for each entry: the number of its track, or None for a frame without a face. Crops tell the frame."""
    for index, track in enumerate(tracks):
        if track is None:
            yield Shot(item(index, fps=fps), "no face")
            continue
        crop = np.full((RESOLUTION, RESOLUTION, 3), index % 251, np.uint8)
        yield Shot(item(index, fps=fps), "", face(track), np.eye(2, 3, dtype=np.float32), crop)


class FollowedNetworks:
    """In place of `Networks`: latents are a picture's grey level, denoising hands back the frame's own latents.

    windows: for every denoised window the frames shown, the references shown, and the noise
    encoded: frames in the order they were encoded, masked ones and whole ones
    """

    latent_shape = (4, LATENT, LATENT)
    mask = np.ones((RESOLUTION, RESOLUTION), np.float32)

    def __init__(self) -> None:
        self.windows: list[tuple[list[int], list[int], torch.Tensor]] = []
        self.batches: list[int] = []
        self.encoded: dict[bool, list[int]] = {True: [], False: []}

    def encode(self, crops: np.ndarray, *, masked: bool) -> torch.Tensor:
        levels = crops[:, 0, 0, 0].astype(np.float32)
        self.encoded[masked] += [int(level) for level in levels]
        return torch.from_numpy(levels).view(-1, 1, 1, 1).expand(-1, *self.latent_shape).clone()

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        levels = latents.mean((1, 2, 3)).round().to(torch.uint8).numpy()
        return np.broadcast_to(levels[:, None, None, None], (len(levels), RESOLUTION, RESOLUTION, 3))

    def silence(self) -> torch.Tensor:
        return torch.zeros(2, 3)

    def denoise(self, make_scheduler, noise, masked_latents, reference_latents, branches, num_inference_steps):
        self.batches.append(len(noise))
        for i in range(len(noise)):
            frames, references = ([int(level) for level in part[i, 0, :, 0, 0]]
                                  for part in (masked_latents, reference_latents))  # fmt: skip
            self.windows.append((frames, references, noise[i]))
        return masked_latents


class FollowedVoice:
    """In place of `Voice`: remembers the times that it was asked for."""

    def __init__(self) -> None:
        self.times: list[list[float]] = []

    def tokens(self, times) -> torch.Tensor:
        self.times.append(list(times))
        return torch.ones(len(times), 2, 3)
