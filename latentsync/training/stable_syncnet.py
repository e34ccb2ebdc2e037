"""Train StableSyncNet on pairs of mouths and sound: the task, for `training.runner` to run.

LatentSync, arXiv 2412.09262, section 3.4: lower halves of 16 frames, half of the pairs from another start of the same
clip, binary cross-entropy of the cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from latentsync.data.crops import ClipCrops
from latentsync.data.manifest import read_manifest
from latentsync.data.pair_checks import check_clips
from latentsync.data.pairs import HalfLatents, PairBatch, PairRecipe, PairSampler, SyncClip, sync_clips
from latentsync.hub import Settings, load_vae, save_folder
from latentsync.losses.sync import cosine_bce
from latentsync.models.stable_syncnet import StableSyncNet, VisualInput
from latentsync.models.syncnet_shapes import check_network
from latentsync.training.runner import Report, Task
from latentsync.training.runtime import warn_user
from latentsync.training.sync_guard import StuckGuard
from latentsync.training.sync_validation import ValidationRecipe, offset_curves, offset_figures, pair_scores
from latentsync.types import InputError

VALIDATION_SEED = 20_241_209  # the held-out pairs are the same in every run
NAMED = 3  # skipped clips that a warning names


class StableSyncNetTask:
    """What is trained, on what, and what tells how well; see `runner.Task`."""

    def __init__(
        self,
        network: StableSyncNet,
        training: PairSampler,
        held_out: PairSampler,
        guard: StuckGuard,
        validation: ValidationRecipe,
        resolution: int,
    ) -> None:
        """resolution: px, side of the crops."""
        self.module: torch.nn.Module = network
        self.input = network.input
        self.training, self.held_out, self.guard, self.validation = training, held_out, guard, validation
        self.resolution = self.input.size if self.input.space == "pixel" else resolution
        self.figures: dict[str, float] = {}  # of the last validation

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """The pairs of these numbers."""
        return self.training.batch(indices)

    def losses(self, module: torch.nn.Module, batch: PairBatch, step: int) -> dict[str, torch.Tensor]:
        """BCE of the cosine, the mean over the batch. No sample's share depends on another's: parts add up exactly."""
        visual, audio = module(batch.images, batch.mel)
        loss = cosine_bce(visual[batch.shown], audio[batch.heard], batch.match)
        self.guard.note(step, loss)
        return {"sync": loss}

    def validate(self, module: torch.nn.Module) -> Report:
        """Loss, accuracy and AUC on fixed held-out pairs; how often moved sound is put back to its place."""
        recipe = self.validation
        scores = pair_scores(module, self.held_out, recipe.pairs, recipe.batch)
        curves = offset_curves(module, self.held_out.clips, self.input, recipe)
        self.figures = {
            "loss": scores.loss,
            "accuracy": scores.accuracy(),
            "auc": scores.auc,
            **offset_figures(curves),
        }
        return Report(self.figures)

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """A checkpoint folder that `hub.load_stable_syncnet` loads."""
        assert isinstance(module, StableSyncNet)
        figures = "".join(f"- held-out {name}: {value:.4f}\n" for name, value in self.figures.items())
        told = f"Does a mouth belong to a sound? It looks at {_described(module.input)}."
        settings = Settings(resolution=self.resolution)
        save_folder(folder, stable_syncnet=module, settings=settings, card=f"# StableSyncNet\n\n{told}\n\n{figures}")


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


def new_network(config: DictConfig) -> StableSyncNet:
    """A network with weights drawn from `run.seed`. InputError as `network_config`."""
    described = network_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        return StableSyncNet(described)


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
    network = new_network(config)
    for purpose, clips in (("train", training), ("validate", held_out)):
        if not clips:
            raise InputError(f"there are no clips to {purpose} on: prepare more clips, of at least two speakers")
    report = check_clips([*training, *held_out])
    report.raise_if_hopeless()
    for complaint in report.complaints():
        warn_user(complaint)
    recipe, encode = PairRecipe(**config.pairs), _encoder(config, network.input)
    seen, unseen = (_cut(clips, network.input, recipe, encode) for clips in (training, held_out))
    plain = PairRecipe(negative_distance=recipe.negative_distance)  # measured alike, whatever is trained on
    return StableSyncNetTask(
        network,
        PairSampler(seen, network.input, recipe, config.run.seed),
        PairSampler(unseen, network.input, plain, VALIDATION_SEED),
        StuckGuard(report, config.run.batch, recipe.crossed),
        ValidationRecipe(**config.validation),
        training[0].crops.shape[1],
    )


def _encoder(config: DictConfig, looks_at: VisualInput) -> HalfLatents | None:
    if looks_at.space == "pixel":
        return None
    vae = load_vae(config.vae).to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
    return HalfLatents(vae, looks_at, Path(config.run_folder) / "latents")


def _cut(
    clips: Sequence[ClipCrops], looks_at: VisualInput, recipe: PairRecipe, encode: HalfLatents | None
) -> list[SyncClip]:
    kept, skipped = sync_clips(clips, looks_at, recipe.negative_distance, encode)
    if skipped:
        warn_user(f"{len(skipped)} of {len(clips)} clips are left out: {'; '.join(skipped[:NAMED])}")
    return kept
