"""FID and FVD, by torchmetrics: how far the faces of all dubs together lie from those of real videos.

Features are gathered row by row of the tables; what is real is the right answer where there is one, else the source.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from latentsync.evaluation.families.pictures import Moment
from latentsync.evaluation.families.quality import face_pixels
from latentsync.evaluation.material import Take
from latentsync.evaluation.registry import SOURCE, Figure, Figures, Missing
from latentsync.models.videomae import VideoFeatures

FID_EVERY = 5  # frames
FEWEST = 2  # vectors that a covariance needs
NO_TORCHMETRICS = "install torchmetrics (pip install 'latentsync[metrics]')"


@dataclass
class Sets:
    """Vectors of one group of rows."""

    made: list[torch.Tensor] = field(default_factory=list)
    real: list[torch.Tensor] = field(default_factory=list)


@dataclass
class Distributions:
    """Features of every group so far, and the networks that give them.

    inception: (n, 3, h, w) uint8 -> (n, 2048), as FID wants it; video: VideoMAE
    """

    inception: nn.Module | None
    video: VideoFeatures | None
    pictures: dict[str, Sets] = field(default_factory=lambda: defaultdict(Sets))
    windows: dict[str, Sets] = field(default_factory=lambda: defaultdict(Sets))

    def figures(self, group: str) -> Figures:
        """FID and FVD of a group of rows."""
        return {
            "fid": _distance(self.pictures[group], "give --fid-weights" if self.inception is None else None),
            "fvd": _distance(self.windows[group], "give --fvd-features, a VideoMAE" if self.video is None else None),
        }


class FaceFeatures:
    """Adds the faces of one row to its group."""

    def __init__(self, take: Take, group: str, into: Distributions) -> None:
        self._into, self._group = into, group
        beside = take.right or take.source
        self._mouths = None if beside is None else take.material.mouths(beside)
        self._made: list[torch.Tensor] = []
        self._real: list[torch.Tensor] = []

    def add(self, moment: Moment) -> None:
        """See Watcher."""
        real = moment.source if moment.right is None else moment.right
        if self._mouths is None or real is None or (self._into.inception is None and self._into.video is None):
            return
        if moment.index >= len(self._mouths.times) or not np.isfinite(self._mouths.anchors[moment.index]).all():
            self._made, self._real = [], []
            return
        anchors = self._mouths.anchors[moment.index]
        self._made.append(face_pixels(moment.made, anchors))
        self._real.append(face_pixels(real, anchors))
        if moment.index % FID_EVERY == 0:
            self._picture()
        if self._into.video is not None and len(self._made) == self._into.video.frames:
            self._window(self._into.video)
        if self._into.video is None or len(self._made) == self._into.video.frames:
            self._made, self._real = [], []

    def _picture(self) -> None:
        if self._into.inception is not None:
            sets = self._into.pictures[self._group]
            for faces, vectors in ((self._made, sets.made), (self._real, sets.real)):
                levels = ((faces[-1] + 1) * 127.5).round().to(torch.uint8)[None]
                with torch.inference_mode():
                    vectors.append(self._into.inception(levels).flatten(1).double())

    def _window(self, video: VideoFeatures) -> None:
        sets = self._into.windows[self._group]
        for faces, vectors in ((self._made, sets.made), (self._real, sets.real)):
            with torch.inference_mode():
                vectors.append(video(_sized(torch.stack(faces), video.size)[None]).double())

    def figures(self) -> Figures:
        """See Watcher. One row has no distance of its own."""
        return {}


def _sized(faces: torch.Tensor, size: int) -> torch.Tensor:
    """(f, 3, h, w) in [-1, 1] -> (f, 3, size, size) in [0, 1]."""
    resized = nn.functional.interpolate(faces, (size, size), mode="bicubic", antialias=True)
    return (resized / 2 + 0.5).clamp(0, 1)


class _Given(nn.Module):
    """Lets torchmetrics take vectors for pictures."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, d) as they are; anything else is torchmetrics asking how wide they are."""
        return vectors if vectors.ndim == 2 else torch.zeros(len(vectors), self.num_features, dtype=torch.float64)


def frechet_distance(made: torch.Tensor, real: torch.Tensor) -> float:
    """Fréchet distance of two sets of vectors (n, d), by torchmetrics. ImportError where it is not installed."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(made.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(made.double(), real=False)
    return float(metric.compute())


def _distance(sets: Sets, missing: str | None) -> Figure:
    if missing is not None:
        return Missing(missing)
    if min(len(sets.made), len(sets.real)) < FEWEST:
        return Missing(f"give {SOURCE} or --truth, and longer clips: too few faces to be compared")
    try:
        return frechet_distance(torch.cat(sets.made), torch.cat(sets.real))
    except ImportError:
        return Missing(NO_TORCHMETRICS)
