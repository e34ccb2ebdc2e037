"""What `claims.py` trains: critics by our recipes, one more that only judges, and the UNet with each set of losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import common
import numpy as np
from articulation import UNSEEN
from omegaconf import DictConfig
from stable_syncnet import HELD_OUT_SHARE, drawn, prepared, shrunk

from latentsync.config import load_config
from latentsync.data.crops import ClipCrops, load_folder
from latentsync.training import videomae
from latentsync.training.loop.recipe import train
from latentsync.training.loop.records import clips_hash
from latentsync.training.loop.runner import EXPORT
from latentsync.training.loop.task import Task
from latentsync.training.sync import stable_syncnet, unisync
from latentsync.training.unet import build as unet_build
from latentsync.types import MODEL_FPS

PIXEL, LATENT, JUDGE, VIDEO = "pixel_critic", "latent_critic", "judge", "video_critic"
UNISYNC = "unisync_critic"
GRID_EVERY = 3  # of GRID s1's sentences, so that one real speaker does not fill the set
LONGEST = 300  # frames of one clip
JUDGES_PEOPLE = range(1000, 1040)  # drawn for the judge alone; the common set has 0 to 99
HELD_OUT_CLIPS = 24  # that figures are logged on while training
RATE_TOLERANCE = 0.3  # frames a second
FEW, FEW_HELD_OUT = 8, 2  # clips of a run that is only timed
POINTS = 6  # validations of a run


@dataclass(frozen=True)
class Recipe:
    """One network and what its configuration changes."""

    title: str
    config: str
    changes: tuple[str, ...] = ()


CRITICS = {
    PIXEL: Recipe("StableSyncNet of pixels", "stable_syncnet_small", ("run.seed=11",)),
    LATENT: Recipe("StableSyncNet of latents", "stable_syncnet_small_latent", ("run.seed=12",)),
    JUDGE: Recipe(
        "StableSyncNet that only judges",
        "stable_syncnet_small",
        (
            "run.seed=13",
            "input.size=80",
            "network.visual_encoder.block_out_channels=[32,64,64,128,256,256]",
            "network.visual_encoder.attn_blocks=[0,0,0,0,1,0]",
        ),
    ),
    VIDEO: Recipe("VideoMAE", "videomae", ("run.seed=14",)),
    UNISYNC: Recipe("UniSync of RGB and mel", "unisync_small", ("run.seed=15",)),
}


@dataclass(frozen=True)
class Variant:
    """One set of losses beside the noise loss."""

    title: str
    sync: str | None = None  # which critic
    trepa: bool = False


VARIANTS = {
    "none": Variant("no SyncNet"),
    "latent": Variant("latent SyncNet", LATENT),
    "pixel": Variant("pixel SyncNet", PIXEL),
    "trepa": Variant("no SyncNet, TREPA", None, trepa=True),
    "pixel_trepa": Variant("pixel SyncNet, TREPA", PIXEL, trepa=True),
    "unisync": Variant("UniSync", UNISYNC),
}
THE_PAPERS = ("none", "latent", "pixel", "trepa", "pixel_trepa")  # LatentSync's; UniSync is compared by asking for it
UNET = "unet/claims"
SYNC_WEIGHT, TREPA_WEIGHT = 0.05, 10.0  # the paper's, of critics of 2048 and of 1408 numbers


def run_name(variant: str, seed: int) -> str:
    """Of a UNet's run."""
    return f"{variant}_{seed}"


def needed_critics(variants: Iterable[str]) -> list[str]:
    """Those that these variants are trained with, and the judge."""
    chosen = [VARIANTS[variant] for variant in variants]
    wanted = {JUDGE, *(variant.sync for variant in chosen)} | ({VIDEO} if any(v.trepa for v in chosen) else set())
    return [name for name in CRITICS if name in wanted]


class Clips:
    """The common set and the judge's, without anyone who is tested on."""

    def __init__(self, crops: Path, work: Path, resolution: int) -> None:
        """crops: prepared clips of `resolution` px; work: where the judge's own people are drawn."""
        self.crops, self.work, self.resolution = crops, work, resolution

    @cached_property
    def common(self) -> tuple[list[ClipCrops], list[ClipCrops]]:
        """To train on, and held out: other drawn people, other sentences."""
        tested, held = frozenset(UNSEEN), set(common.held_out())
        training, held_out, sentences = [], [], 0
        for clip in filter(at_model_rate, load_folder(self.crops, leave_out=tested)):
            if clip.name in held or _drawn_and_held_out(clip.name):
                held_out.append(capped(clip))
                continue
            sentence = "_" not in clip.name
            sentences += sentence
            if not sentence or sentences % GRID_EVERY == 0:
                training.append(capped(clip))
        return training, spread_out(held_out, HELD_OUT_CLIPS)

    @cached_property
    def judges(self) -> tuple[list[ClipCrops], list[ClipCrops]]:
        """The real clips of the common set, and drawn people that nothing else sees."""
        folder = self.work / "judges_crops"
        own = prepared(drawn(JUDGES_PEOPLE, folder), folder, self.resolution)
        training, held_out = self.common
        return [clip for clip in training if not clip.name.startswith("synth_")] + own, held_out


def _drawn_and_held_out(name: str) -> bool:
    return name.startswith("synth_") and int(name.split("_")[1]) % HELD_OUT_SHARE == HELD_OUT_SHARE - 1


def with_speakers(clips: Sequence[ClipCrops]) -> list[ClipCrops]:
    """Drawn people and GRID's s1 by their names; every other clip counts as a speaker of its own."""
    return [replace(clip, speaker=speaker_of(clip.name)) for clip in clips]


def speaker_of(name: str) -> str:
    """`synth_003_1` -> `synth_003`; a name of one word is a sentence of GRID's s1; others as they are."""
    if "_" not in name:
        return "grid_s1"
    return name.rpartition("_")[0] if name.startswith("synth_") else name


def at_model_rate(clip: ClipCrops) -> bool:
    """Whether a window of its frames lasts as long as the sound that a sync critic compares it with."""
    rate = (len(clip) - 1) / max(float(clip.times[-1] - clip.times[0]), 1e-6)
    return abs(rate - MODEL_FPS) < RATE_TOLERANCE


def capped(clip: ClipCrops) -> ClipCrops:
    """The first LONGEST frames; the sound stays."""
    end = LONGEST
    return replace(clip, crops=clip.crops[:end], landmarks=clip.landmarks[:end], times=clip.times[:end])


def spread_out(clips: Sequence[ClipCrops], count: int) -> list[ClipCrops]:
    """At most `count` of them, evenly spread."""
    return [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, count).astype(int))]


@dataclass(frozen=True)
class Trainer:
    """Trains by name in `folder` what is not there yet; a killed training goes on where it was saved last."""

    folder: Path
    clips: Clips
    start: str  # checkpoint that every UNet begins at
    changes: tuple[str, ...] = ()  # of every UNet's configuration
    trepa_weight: float = TREPA_WEIGHT
    few: bool = False  # a few clips only, to see how long an update takes

    def export(self, name: str) -> Path:
        """Where the finished network is."""
        return self.folder / name / EXPORT

    def train(self, name: str, steps: int) -> Path:
        """Train a critic, or a UNet by its `run_name`, for `steps` updates; returns `export(name)`."""
        if not self.export(name).exists():
            config = self.config(name, steps)
            train(config, lambda config: self._task(name, config))
        return self.export(name)

    def config(self, name: str, steps: int) -> DictConfig:
        """Of a run of `steps` updates."""
        recipe = CRITICS.get(name) or self._unet(name)
        return load_config(
            recipe.config,
            [
                f"run_folder={self.folder / name}",
                f"run.steps={steps}",
                f"run.warmup={max(1, steps // 20)}",
                f"run.save_every={max(1, steps // 20)}",
                f"run.validate_every={steps if self.few else max(1, steps // POINTS)}",
                "run.log_every=1",
                *([f"vae={self.start}"] if name == LATENT else []),
                *recipe.changes,
            ],
        )

    def _unet(self, name: str) -> Recipe:
        key, _, seed = name.rpartition("_")
        variant = VARIANTS[key]
        changes = [
            f"start_from={self.start}",
            f"run.seed={seed}",
            f"data.cache_folder={self.folder / 'cache'}",
            *self.changes,
        ]
        if variant.sync:
            changes += [f"weights.sync={SYNC_WEIGHT}", f"losses.sync_critic={self.export(variant.sync)}"]
            changes += ["sync_critic=unisync"] if variant.sync == UNISYNC else []
        if variant.trepa:
            changes += [f"weights.trepa={self.trepa_weight}", f"losses.trepa_critic={self.export(VIDEO)}"]
        return Recipe(variant.title, UNET, tuple(changes))

    def _task(self, name: str, config: DictConfig) -> tuple[Task, str]:
        clips = self.clips.judges if name == JUDGE and not self.few else self.clips.common
        training, held_out = self._few(*clips) if self.few else clips
        make: Any = unet_build.make_task
        if name == VIDEO:
            make = videomae.make_task
        elif name == UNISYNC:
            make = unisync.make_task
            training, held_out = (
                [shrunk(clip, config.visual.size) for clip in with_speakers(some)] for some in (training, held_out)
            )
        elif name in CRITICS:
            make = stable_syncnet.make_task
            if config.input.space == "pixel":  # once, not again for every pair
                training, held_out = (
                    [shrunk(clip, config.input.size) for clip in some] for some in (training, held_out)
                )
        return make(config, training, held_out), clips_hash([*training, *held_out])

    @staticmethod
    def _few(training: list[ClipCrops], held_out: list[ClipCrops]) -> tuple[list[ClipCrops], list[ClipCrops]]:
        return spread_out(training, FEW), spread_out(held_out, FEW_HELD_OUT)
