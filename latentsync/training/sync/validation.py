"""How well a sync network tells moments apart: right answers, AUC, and where it hears the sound lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from latentsync.data.pairs import Looked, PairBatch, PairClip, PairSampler
from latentsync.data.sync_scores import PairScores, right_offsets, shift_scores
from latentsync.losses.sync import cosines

PairLoss = Callable[[torch.Tensor, PairBatch], torch.Tensor]
"""(cosines (b,), their pairs) -> the mean loss of a batch"""


@dataclass(frozen=True)
class ValidationRecipe:
    """What is measured on."""

    pairs: int = 512  # fixed pairs of held-out clips, half of them matching
    offset_clips: int = 32  # held-out clips whose sound is moved
    offset_reach: int = 15  # frames by which it is moved at most, either way
    offset_windows: int = 15  # windows of each of these clips
    batch: int = 32  # windows at once


@dataclass(frozen=True)
class Scores(PairScores):
    """Cosines of pairs, which of them match, and what the loss makes of them."""

    loss: float


@torch.no_grad()
def pair_scores(network: torch.nn.Module, sampler: PairSampler[Any], pairs: int, batch: int, loss: PairLoss) -> Scores:
    """Cosines of the sampler's first `pairs` pairs. network: (seen, heard) -> vectors of length 1 of both"""
    found, matches, losses = [], [], []
    for first in range(0, pairs, batch):
        drawn = sampler.batch(range(first, min(first + batch, pairs)))
        visual, audio = _vectors(network, drawn.images, drawn.mel)
        likely = cosines(visual[drawn.shown.to(visual.device)], audio[drawn.heard.to(visual.device)]).cpu()
        losses.append(loss(likely, drawn).item() * len(likely))
        found.append(likely.numpy())
        matches.append(drawn.match.numpy() > 0)
    return Scores(np.concatenate(found), np.concatenate(matches), sum(losses) / pairs)


def _vectors(network: torch.nn.Module, images: torch.Tensor, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    device = next(network.parameters()).device
    return network(images.to(device), mel.to(device))


def shifted_cosines(vectors: tuple[torch.Tensor, torch.Tensor], reach: int) -> np.ndarray:
    """Cosine of every window's picture with the sound of the windows around it.

    vectors: visual and audio, (n, d) each, of n windows that start one frame after the other
    returns: (n - 2 * reach, 2 * reach + 1): window `reach` + i, sound later by column - `reach` frames
    """
    visual, audio = (side.float().cpu().numpy() for side in vectors)  # in torch autocast would round the products
    return shift_scores(visual, audio, reach)[reach : len(visual) - reach]


@torch.no_grad()
def offset_curves(
    network: torch.nn.Module, clips: Sequence[PairClip[Looked]], wanted: Looked, recipe: ValidationRecipe
) -> list[np.ndarray]:
    """`shifted_cosines` of each clip that is long enough, over its first run of windows."""
    curves = []
    for clip in (clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, recipe.offset_clips).astype(int))):
        starts = _run(clip.starts)[: 2 * recipe.offset_reach + recipe.offset_windows]
        if len(starts) <= 2 * recipe.offset_reach:
            continue
        vectors = []
        for first in range(0, len(starts), recipe.batch):
            some = [int(start) for start in starts[first : first + recipe.batch]]
            images = torch.stack([clip.images(start, wanted, None) for start in some])
            mel = torch.stack([clip.mel(start) for start in some])
            vectors.append(_vectors(network, images, mel))
        visual, audio = (torch.cat(side) for side in zip(*vectors, strict=True))
        curves.append(shifted_cosines((visual, audio), recipe.offset_reach))
    return curves


def _run(starts: np.ndarray) -> np.ndarray:
    """The longest run of starts that follow one another."""
    runs = np.split(starts, np.flatnonzero(np.diff(starts) != 1) + 1)
    return max(runs, key=len)


def offset_figures(curves: Sequence[np.ndarray]) -> dict[str, float]:
    """Share of windows, and of clips (mean over their windows), whose sound is found within a frame of its place.

    Empty when no clip was long enough.
    """
    if not curves:
        return {}
    clips = np.stack([curve.mean(axis=0) for curve in curves])
    return {
        "offset_accuracy": right_offsets(np.concatenate(curves)),
        "clip_offset_accuracy": right_offsets(clips),
    }
