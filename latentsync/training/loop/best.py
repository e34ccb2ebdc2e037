"""A task that is ended when its held-out loss no longer falls, and that exports the best weights it had."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from latentsync.training.loop.runner import Report
from latentsync.types import InputError

LOSS = "loss"  # the figure of a validation that is to fall


class BestOnHeldOut:
    """Any task that validates a loss and has state, with patience; see `loop.task.Task`.

    Best is judged by validation: with `run.validate_first` the network that training began with competes too, so what
    is exported is never worse than it on what is held out. For weights that every process holds whole.
    """

    def __init__(self, task: Any, patience: int) -> None:
        """task: a `Task` with `prepare`, `state_dict` and `load_state_dict`; patience: validations without a better
        loss after which the run ends."""
        self.task, self.patience = task, patience
        self.module: torch.nn.Module = task.module
        self.rates = getattr(task, "rates", {})
        self.best: dict[str, torch.Tensor] = {}
        self.task_state: dict[str, Any] = {}  # the inner task's when it was best
        self.loss, self.waited = float("inf"), 0
        self.updates, self.exported_updates = 0, 0  # made so far; made when it was best

    def prepare(self, device: torch.device) -> None:
        """The inner task's."""
        self.task.prepare(device)

    def batch(self, indices: Sequence[int]) -> Any:
        """The inner task's."""
        return self.task.batch(indices)

    def losses(self, module: torch.nn.Module, batch: Any, step: int) -> dict[str, torch.Tensor]:
        """The inner task's."""
        self.updates = step + 1
        return self.task.losses(module, batch, step)

    def validate(self, module: torch.nn.Module) -> Report:
        """The inner task's report, with `stop` once `patience` validations in a row were no better than the best."""
        report = self.task.validate(module)
        if report.figures[LOSS] < self.loss:
            self.loss, self.waited = float(report.figures[LOSS]), 0
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self._trained(self.module)}
            self.task_state = copy.deepcopy(self.task.state_dict())
            self.exported_updates = self.updates
        else:
            self.waited += 1
        return replace(report, stop=report.stop or self.waited >= self.patience)

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """Write the best weights; `module` holds them from here on. InputError when no held-out loss was a number."""
        if not self.best:
            raise InputError(
                f"no held-out loss of {self.waited} validations was a number, so no weights are better than others: "
                "in another run_folder, lower run.learning_rate or use run.precision=no"
            )
        with torch.no_grad():
            for name, tensor in self._trained(module):
                tensor.copy_(self.best[name])
        self.task.load_state_dict(self.task_state)
        self.task.export(module, folder)

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far, and how long ago that was."""
        mine = {"best": self.best, "task_state": self.task_state, "loss": self.loss, "waited": self.waited}
        mine["exported_updates"] = self.exported_updates
        return {"task": self.task.state_dict(), **mine}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`. KeyError where it is that of another task."""
        self.task.load_state_dict(state["task"])
        self.best, self.task_state = state["best"], state["task_state"]
        self.loss, self.waited, self.exported_updates = state["loss"], state["waited"], state["exported_updates"]

    def _trained(self, module: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, tensor) for name, tensor in module.named_parameters() if tensor.requires_grad]
