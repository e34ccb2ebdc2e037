"""Train StableSyncNet on pairs of mouths and sound: the task, for `training.loop.runner` to run.

LatentSync, arXiv 2412.09262, section 3.4: lower halves of 16 frames, half of the pairs from another start of the same
clip, binary cross-entropy of the cosine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from latentsync.data.crops import ClipCrops
from latentsync.data.manifest import features_folder, read_manifest
from latentsync.data.pairs import HalfLatents, PairBatch, PairRecipe, PairSampler, SyncClip, sync_clips
from latentsync.hub import Settings, load_stable_syncnet, load_vae, save_folder
from latentsync.losses.sync import cosine_bce, likely_bce
from latentsync.models.stable_syncnet import PUBLISHED_CONFIG, StableSyncNet, VisualInput
from latentsync.models.syncnet_shapes import check_network
from latentsync.training.loop.start import differing
from latentsync.training.loop.task import Task
from latentsync.training.sync.guard import StuckGuard
from latentsync.training.sync.task import VALIDATION_SEED, SyncTask, kept, looked_over
from latentsync.training.sync.validation import ValidationRecipe
from latentsync.types import InputError

LATENTS = "lower_latents"  # folder of the cache, in the run folder or beside the manifest's features
LOOKS_SEED = 1  # a clip has the same other looks in every run, so that runs share their latents


class StableSyncNetTask(SyncTask[VisualInput]):
    """What is trained, on what, and what tells how well; see `loop.task.Task`."""

    def __init__(
        self,
        network: StableSyncNet,
        training: PairSampler[VisualInput],
        held_out: PairSampler[VisualInput],
        guard: StuckGuard,
        validation: ValidationRecipe,
        resolution: int,
        encode: HalfLatents | None,
    ) -> None:
        """resolution: px, side of the crops; encode: makes the latents that the network looks at, where it does."""
        super().__init__(network, training, held_out, guard, validation)
        self.resolution = network.input.size if network.input.space == "pixel" else resolution
        self.encode = encode

    def prepare(self, device: torch.device) -> None:
        """Encode the clips of a network of latents, where that has not been done yet."""
        if self.encode is None:
            return
        self.encode.vae.to(device)  # type: ignore[arg-type]
        for sampler in (self.training, self.held_out):
            clips = tqdm(sampler.clips, "encoding clips", leave=False, disable=not sys.stderr.isatty())
            sampler.clips = [clip.encoded(self.encode) for clip in clips if isinstance(clip, SyncClip)]

    def losses(self, module: torch.nn.Module, batch: PairBatch, step: int) -> dict[str, torch.Tensor]:
        """BCE of the cosine, the mean over the batch. No sample's share depends on another's: parts add up exactly."""
        visual, audio = module(batch.images, batch.mel)
        loss = cosine_bce(visual[batch.shown], audio[batch.heard], batch.match)
        self.guard.note(step, loss)
        return {"sync": loss}

    def pair_loss(self, likely: torch.Tensor, batch: PairBatch) -> torch.Tensor:
        """See SyncTask."""
        return likely_bce(likely, batch.match)

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """A checkpoint folder that `hub.load_stable_syncnet` loads."""
        assert isinstance(module, StableSyncNet)
        if not self.figures:  # the run was killed after its last validation and before this
            self.validate(module)
        told = f"Does a mouth belong to a sound? It looks at {_described(module.input)}."
        settings = Settings(resolution=self.resolution)
        save_folder(
            folder, stable_syncnet=module, settings=settings, card=f"# StableSyncNet\n\n{told}\n\n{self.told()}"
        )


def _described(looks_at: VisualInput) -> str:
    _, height, width = looks_at.shape
    return f"the lower halves ({height} x {width}, {looks_at.space}) of {looks_at.frames} frames"


def network_config(config: DictConfig) -> dict[str, Any]:
    """The groups `input` and `network` of a configuration as `StableSyncNet` takes them, checked.

    InputError when the network cannot be built, or its towers do not end at one place: it says which stride to change.
    """
    described: Any = OmegaConf.to_container(config.network, resolve=True)
    described["input"] = OmegaConf.to_container(config.input, resolve=True)
    check_network(described)
    return described


def first_network(config: DictConfig) -> StableSyncNet:
    """The network that a run begins with: of the checkpoint `start_from`, or with weights drawn from `run.seed`.

    InputError as `network_config`, and when the checkpoint is of another shape; CheckpointError when it is none.
    """
    described = network_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        network = StableSyncNet(described)
    if config.start_from:
        known = load_stable_syncnet(config.start_from)
        _check_shape(known, network, config.start_from)
        network.load_state_dict(known.state_dict())
    return network


def _check_shape(known: StableSyncNet, wanted: StableSyncNet, name: str) -> None:
    found = [f"{part}.{told}" for part, asked in _parts(wanted) for told in differing(asked, dict(_parts(known))[part])]
    if found:
        raise InputError(
            f"start_from: {name} has another shape: {'; '.join(found)}; configure the same, or leave it out"
        )


def _parts(network: StableSyncNet) -> list[tuple[str, dict[str, Any]]]:
    """The groups of its configuration, by their names."""
    return [("input", asdict(network.input)), *((tower, network.config[tower]) for tower in PUBLISHED_CONFIG)]


def build(config: DictConfig) -> tuple[Task, str]:
    """The task of a configuration and the hash of its data, read from the manifest that it names.

    InputError for a network that cannot be, or clips that nothing can be learned from.
    """
    network_config(config)  # before minutes of reading
    if not config.manifest:
        raise InputError("no data: give manifest=FILE, the manifest that train/prepare_data.py wrote")
    manifest = read_manifest(Path(config.manifest))
    training, held_out = (manifest.clips(split) for split in ("train", "validation"))
    return make_task(config, training, held_out), manifest.digest


def make_task(config: DictConfig, training: Sequence[ClipCrops], held_out: Sequence[ClipCrops]) -> StableSyncNetTask:
    """The task on clips in memory; warns of everything the data check finds, and of clips that are skipped.

    InputError as `build`.
    """
    network = first_network(config)
    report = looked_over(training, held_out)
    recipe, encode = PairRecipe(**config.pairs), _encoder(config, network.input)
    seen, unseen = (
        kept(clips, lambda some: sync_clips(some, network.input, recipe.negative_distance, encode))
        for clips in (training, held_out)
    )
    if recipe.latent_looks:
        seen = _with_looks(seen, recipe.latent_looks, encode)
    plain = PairRecipe(negative_distance=recipe.negative_distance)  # measured alike, whatever is trained on
    return StableSyncNetTask(
        network,
        PairSampler(seen, network.input, recipe, config.run.seed),
        PairSampler(unseen, network.input, plain, VALIDATION_SEED),
        StuckGuard(report, config.run.batch, recipe.crossed, updates=config.run.steps),
        ValidationRecipe(**config.validation),
        training[0].crops.shape[1],
        encode,
    )


def _with_looks(clips: Sequence[SyncClip], count: int, encode: HalfLatents | None) -> list[SyncClip]:
    if encode is None:
        raise InputError(
            f"pairs.latent_looks is {count} and the network looks at pixels, which change with every pair: set "
            "pairs.latent_looks=0 and pairs.changed_looks"
        )
    return [seen for clip in clips for seen in clip.with_looks(count, LOOKS_SEED)]


def _encoder(config: DictConfig, looks_at: VisualInput) -> HalfLatents | None:
    if looks_at.space == "pixel":
        return None
    folder = features_folder(config.manifest) if config.manifest else Path(config.run_folder)
    return HalfLatents(load_vae(config.vae), looks_at, folder / LATENTS)
