"""Says why when the loss of a sync network does not leave ln 2, the loss of answering "perhaps" to everything."""

from __future__ import annotations

import math

import torch

from latentsync.data.pair_checks import DataReport
from latentsync.training.loop.runtime import warn_user

CHANCE = math.log(2)
NEAR = 0.01  # of the mean loss to ln 2, in both halves of the updates watched
WATCHED = 200  # updates that the mean is taken over, or half of a shorter run, but not
FEWEST_WATCHED = 10  # less
ALIKE = 5e-4  # spread of the losses over half of them, below which every pair gets the same answer
SILENT_FOR = 1000  # updates between two warnings
ENOUGH_SAMPLES = 256  # a batch; with 128 the loss may stay at ln 2, with 1024 it hardly does (section 3.4)
ALIGNED = 0.3  # correlation of lip gap and loudness over all clips that clean data reach; 0.4 to 0.7 is usual


class StuckGuard:
    """Watches the loss, and warns with the likely reasons when it sits where one answer to every pair leaves it."""

    def __init__(
        self,
        report: DataReport,
        batch: int,
        crossed: bool = False,
        chance: float = CHANCE,
        updates: int = 2 * WATCHED,
    ) -> None:
        """report: of the training clips; batch: samples of an update; crossed: whether pairs come in fours; chance: the
        least loss of answering the same to every pair; updates: of the whole run.
        """
        self.report, self.batch, self.crossed, self.chance = report, batch, crossed, chance
        self.seen: dict[int, torch.Tensor] = {}  # update -> its last part's loss, read only when it is due
        self.watched = 2 * (min(WATCHED, max(FEWEST_WATCHED, updates // 2)) // 2)  # even, for it is cut into halves
        self.due = self.watched

    def note(self, step: int, loss: torch.Tensor) -> None:
        """loss: of a part of update `step`. Warns (UserWarning) when the mean of the last updates is `chance`."""
        self.seen[step] = loss.detach()
        if len(self.seen) < self.due:
            return
        halves = torch.stack(list(self.seen.values())[-self.watched :]).reshape(2, -1).float()
        means, silenced = halves.mean(dim=1), bool(halves[1].std() < ALIKE)
        stuck = bool(((means - self.chance).abs() < NEAR).all())
        self.seen, self.due = {}, SILENT_FOR if stuck else self.watched
        if stuck:
            named = "ln 2" if self.chance == CHANCE else "what one answer to every pair costs"
            warn_user(
                f"the loss sits at {float(means.mean()):.3f}, which is {named}: nothing was learned in the last "
                f"{self.watched} updates. Likely reasons: {'; '.join(self.reasons(silenced))}"
            )

    def reasons(self, silenced: bool) -> list[str]:
        """Likely first: what the data check found, then the batch, then what no check can see.

        silenced: every pair gets the same answer, which the first updates of a rate too large teach for good.
        """
        told = self.report.complaints()
        if silenced:
            told.append(
                "every pair gets the same answer: large early updates have silenced the network, and it does not come "
                "back; start again with a lower run.learning_rate or a longer run.warmup"
            )
        if self.batch < ENOUGH_SAMPLES and not self.crossed:
            told.append(
                f"run.batch is {self.batch}: give 256 to 1024, with run.gradient_accumulation where memory is short "
                "(it changes nothing else)"
            )
        if not self.crossed:
            told.append("pairs.crossed is false: with true, what speakers look like cancels out of the gradient")
        if self.report.agreement < ALIGNED:
            told.append(
                f"lips and loudness go together by {self.report.agreement:.2f} only, where clips in step have 0.4 to "
                "0.7: correct each clip's offset of sound and pictures, after the faces were aligned"
            )
        return told or ["it is still early: with a small learning rate the first thousands of updates look like this"]
