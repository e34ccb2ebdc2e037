"""What training any sync network has in common: pairs in, a look over the clips, figures on held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch

from latentsync.data.crops import ClipCrops
from latentsync.data.pair_checks import DataReport, check_clips
from latentsync.data.pairs import Looked, PairBatch, PairSampler
from latentsync.training.loop.runner import Report
from latentsync.training.loop.runtime import warn_user
from latentsync.training.sync.guard import StuckGuard
from latentsync.training.sync.validation import ValidationRecipe, offset_curves, offset_figures, pair_scores
from latentsync.types import InputError

VALIDATION_SEED = 20_241_209  # the held-out pairs are the same in every run
NAMED = 3  # skipped clips that a warning names

Cut = TypeVar("Cut")


class SyncTask(Generic[Looked]):
    """A `loop.task.Task` but for `losses` and `export`, which a subclass has."""

    def __init__(
        self,
        network: torch.nn.Module,
        training: PairSampler[Looked],
        held_out: PairSampler[Looked],
        guard: StuckGuard,
        validation: ValidationRecipe,
    ) -> None:
        self.module, self.training, self.held_out = network, training, held_out
        self.guard, self.validation = guard, validation
        self.figures: dict[str, float] = {}  # of the last validation

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """The pairs of these numbers."""
        return self.training.batch(indices)

    def vectors(self, module: torch.nn.Module) -> torch.nn.Module:
        """(seen, heard) -> the vectors of both, of length 1."""
        return module

    def pair_loss(self, likely: torch.Tensor, batch: PairBatch) -> torch.Tensor:
        """likely: (b,) cosines of the pairs -> what training makes of them, a mean."""
        raise NotImplementedError

    def validate(self, module: torch.nn.Module) -> Report:
        """Loss, accuracy and AUC on fixed held-out pairs; how often moved sound is put back to its place."""
        recipe, network = self.validation, self.vectors(module)
        scores = pair_scores(network, self.held_out, recipe.pairs, recipe.batch, self.pair_loss)
        curves = offset_curves(network, self.held_out.clips, self.held_out.wanted, recipe)
        self.figures = {
            "loss": scores.loss,
            "accuracy": scores.accuracy(),
            "auc": scores.auc,
            **offset_figures(curves),
        }
        return Report(self.figures)

    def told(self) -> str:
        """The last figures, for a model card."""
        return "".join(f"- held-out {name}: {value:.4f}\n" for name, value in self.figures.items())


def looked_over(training: Sequence[ClipCrops], held_out: Sequence[ClipCrops]) -> DataReport:
    """Look at the clips of a run before its first step and warn of everything that is wrong with them.

    InputError where there are none, or nothing can be learned from them.
    """
    for purpose, clips in (("train", training), ("validate", held_out)):
        if not clips:
            raise InputError(f"there are no clips to {purpose} on: prepare more clips, of at least two speakers")
    report = check_clips([*training, *held_out])
    report.raise_if_hopeless()
    for complaint in report.complaints():
        warn_user(complaint)
    return report


def kept(clips: Sequence[ClipCrops], cut: Callable[[Sequence[ClipCrops]], tuple[list[Cut], list[str]]]) -> list[Cut]:
    """The clips that samples can be cut from; warns of the others. cut: see `data.pairs.cut_clips`"""
    found, skipped = cut(clips)
    if skipped:
        warn_user(f"{len(skipped)} of {len(clips)} clips are left out: {'; '.join(skipped[:NAMED])}")
    return found
