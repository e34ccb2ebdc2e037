"""How a finished StableSyncNet answers for each held-out speaker, over more pairs than training validates on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import common

from latentsync.data.crops import ClipCrops
from latentsync.data.pairs import HalfLatents, PairRecipe, PairSampler, SyncClip, sync_clips
from latentsync.losses.sync import likely_bce
from latentsync.models.stable_syncnet import StableSyncNet
from latentsync.training.sync.task import VALIDATION_SEED
from latentsync.training.sync.validation import pair_scores

PAIRS = 128  # of a speaker
AT_ONCE = 32  # pairs
FOUND = "speakers.json"  # in a run's folder
KNOWN = 100  # drawn speakers, from the first on, whose pictures the embedded autoencoder was trained on


def speaker_of(name: str) -> str:
    """`synth_003_1` -> `synth_003`; a GRID sentence, which has no underscore, stands for itself."""
    return name.rpartition("_")[0] or name


def not_known(clips: Sequence[ClipCrops]) -> list[ClipCrops]:
    """Those of drawn speakers whom the embedded autoencoder never saw."""
    return [clip for clip in clips if int(clip.name.split("_")[1]) >= KNOWN]


def answers(
    network: StableSyncNet, clips: Sequence[ClipCrops], encode: HalfLatents | None, pairs: int = PAIRS
) -> dict[str, float]:
    """Speaker -> share of right answers (cosine above 0.5 or not) over `pairs` pairs of his own clips.

    encode: makes the latents of a network that looks at them
    """
    recipe = PairRecipe()
    found = {}
    for speaker, group in groupby(sorted(clips, key=lambda clip: clip.name), lambda clip: speaker_of(clip.name)):
        cut = sync_clips(group, network.input, recipe.negative_distance, encode)[0]
        seen: list[SyncClip] = [clip.encoded(encode) for clip in cut] if encode else cut
        sampler = PairSampler(seen, network.input, recipe, VALIDATION_SEED)
        scores = pair_scores(network, sampler, pairs, AT_ONCE, lambda likely, batch: likely_bce(likely, batch.match))
        found[speaker] = scores.accuracy()
    return found


def keep(found: Mapping[str, float], folder: Path) -> None:
    """Write `answers` of the run in `folder`."""
    with common.made_whole(folder / FOUND) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n")


def kept(folder: Path) -> dict[str, float]:
    """What `keep` wrote; empty where it has not."""
    path = folder / FOUND
    return json.loads(path.read_text()) if path.exists() else {}
