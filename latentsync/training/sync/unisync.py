"""Train UniSync (arXiv 2503.16357) on any pair of representations: the task, for `training.loop.runner` to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from latentsync.audio.features import AudioEncoder
from latentsync.data.cached import FeatureCache
from latentsync.data.crops import ClipCrops
from latentsync.data.manifest import AUDIO, VISUAL
from latentsync.data.pairs import PairBatch, PairRecipe, PairSampler, cut_clips
from latentsync.data.representations import LandmarkBasis, Representation, RepresentationCache, representation
from latentsync.data.unisync import unisync_clip
from latentsync.hub import Settings, load_audio_encoder, save_folder
from latentsync.losses.unisync import MarginLoss
from latentsync.models.unisync import ALL_LEVELS, Audio, UniSync, Visual
from latentsync.models.unisync_shapes import check_network
from latentsync.training.loop.task import Task
from latentsync.training.sync.guard import StuckGuard
from latentsync.training.sync.task import VALIDATION_SEED, SyncTask, kept, looked_over
from latentsync.training.sync.validation import ValidationRecipe
from latentsync.training.unet.data import cache_folder, read_clips
from latentsync.types import InputError


class Sides(torch.nn.Module):
    """Both vectors of a UniSync, where its `forward` gives their cosine."""

    def __init__(self, network: UniSync) -> None:
        super().__init__()
        self.network = network

    def forward(self, visual: torch.Tensor, sound: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `UniSync.see` and `UniSync.hear`."""
        return self.network.see(visual), self.network.hear(sound)


class UniSyncTask(SyncTask[Visual]):
    """What is trained, on what, and what tells how well; see `loop.task.Task`."""

    def __init__(
        self,
        network: UniSync,
        training: PairSampler[Visual],
        held_out: PairSampler[Visual],
        guard: StuckGuard,
        validation: ValidationRecipe,
        margin: MarginLoss,
    ) -> None:
        super().__init__(network, training, held_out, guard, validation)
        self.margin = margin

    def vectors(self, module: torch.nn.Module) -> torch.nn.Module:
        """See SyncTask; of the network within what distributes it."""
        network: Any = getattr(module, "module", module)
        return Sides(network)

    def losses(self, module: torch.nn.Module, batch: PairBatch, step: int) -> dict[str, torch.Tensor]:
        """The margin loss, the mean over the batch. BatchNorm sees one part of a batch at a time."""
        loss = self.pair_loss(module(batch.images, batch.mel, batch.shown, batch.heard), batch)
        self.guard.note(step, loss)
        return {"sync": loss}

    def pair_loss(self, likely: torch.Tensor, batch: PairBatch) -> torch.Tensor:
        """See SyncTask."""
        return self.margin(likely, batch.match, batch.other_speaker)

    def state_dict(self) -> dict[str, Any]:
        """The last figures, which the model card carries."""
        return {"figures": self.figures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.figures = state["figures"]

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """A checkpoint folder that `hub.load_unisync` loads."""
        assert isinstance(module, UniSync)
        visual, audio = module.visual, module.audio
        told = (
            f"Does a mouth belong to a sound? It looks at 5 frames ({visual.kind}: {visual.source}) and listens to 0.2 "
            f"s ({audio.kind}: {audio.source}). Loss: {self.margin}."
        )
        settings = Settings(resolution=visual.size)
        save_folder(folder, unisync=module, settings=settings, card=f"# UniSync\n\n{told}\n\n{self.told()}")


def network_config(config: DictConfig, made_by: Representation | None, encoder: AudioEncoder | None) -> dict[str, Any]:
    """The groups `visual`, `audio` and `network` as `UniSync` takes them, checked. InputError says what to change."""
    described: Any = OmegaConf.to_container(config.network, resolve=True)
    kind, size = config.visual.kind, config.visual.size
    visual = Visual(kind, size=size) if made_by is None else Visual(kind, made_by.width, size, made_by.source)
    audio = Audio(config.audio.kind)
    if encoder is not None:
        level = -1 if config.audio.level is None else config.audio.level
        width = encoder.width * (encoder.levels if level == ALL_LEVELS else 1)
        source = f"{type(encoder).__name__} {Path(config.audio.encoder).stem}"
        audio = Audio(config.audio.kind, width, level, source)
    described |= {"visual": asdict(visual), "audio": asdict(audio)}
    check_network(described)
    return described


def new_network(described: dict[str, Any], seed: int, made_by: Representation | None) -> UniSync:
    """A network with weights drawn from `seed`; with the basis that its numbers are of, where one was fitted."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UniSync(described)
    if isinstance(made_by, LandmarkBasis):
        network.basis = torch.from_numpy(made_by.components)
    return network


def build(config: DictConfig) -> tuple[Task, str]:
    """The task of a configuration and the hash of its data. InputError for what cannot be, or teaches nothing."""
    check_choices(config)  # before minutes of reading
    training, held_out, data_hash = read_clips(config)
    return make_task(config, training, held_out), data_hash


def check_choices(config: DictConfig) -> None:
    """InputError for kinds and shapes that cannot be, as far as they are known before any clip is read."""
    if config.audio.kind == "features" and not config.audio.encoder:
        raise InputError(
            "audio.kind=features needs audio.encoder: HuBERT or another encoder by name, folder or file, or set "
            "audio.kind=mel"
        )
    network_config(config, None, None)


def make_task(config: DictConfig, training: Sequence[ClipCrops], held_out: Sequence[ClipCrops]) -> UniSyncTask:
    """The task on clips in memory; warns of everything the data check finds, and of clips that are skipped.

    InputError as `build`.
    """
    check_choices(config)
    report, seen = looked_over(training, held_out), config.visual
    made_by = representation(seen.kind, seen.size, seen.parser, seen.landmarker, training)
    encoder = load_audio_encoder(config.audio.encoder) if config.audio.kind == "features" else None
    network = new_network(network_config(config, made_by, encoder), config.run.seed, made_by)
    folder, pairs = cache_folder(config), dict(config.pairs)
    cut = partial(
        unisync_clip,
        visual=network.visual,
        audio=network.audio,
        represent=None if made_by is None else RepresentationCache(made_by, folder / VISUAL.name),
        encode=None if encoder is None else FeatureCache(encoder, folder / AUDIO.name),
        distance=pairs["negative_distance"],
        silence=pairs.pop("silence"),
    )
    samplers = [kept(clips, lambda some: cut_clips(some, cut)) for clips in (training, held_out)]
    recipe, margin = PairRecipe(**pairs), MarginLoss(**config.loss)
    plain = PairRecipe(recipe.negative_distance)  # measured alike, whatever is trained on
    chance = margin.of_a_constant(recipe.cross_speaker)
    return UniSyncTask(
        network,
        PairSampler(samplers[0], network.visual, recipe, config.run.seed),
        PairSampler(samplers[1], network.visual, plain, VALIDATION_SEED),
        StuckGuard(report, config.run.batch, recipe.crossed, chance, config.run.steps),
        ValidationRecipe(**config.validation),
        margin,
    )
