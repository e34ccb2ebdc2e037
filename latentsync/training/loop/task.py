"""What a task of the runner is: what a batch is and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from latentsync.training.loop.logbook import Report


class Task(Protocol):
    """What is trained. Four things more are used where a task has them: `rates`, a mapping from a prefix of parameter
    names to a factor on the learning rate; `prepare(device)`, which does once what takes long and a dry run can do
    without; `state_dict` and `load_state_dict`, for state of its own; `exported_updates`, how many updates the exported
    weights had, where those are not the last ones.
    """

    module: torch.nn.Module
    """Everything that is trained, with its buffers; frozen critics are not part of it."""

    def batch(self, indices: Sequence[int]) -> Any:
        """The samples of these numbers on the CPU: tensors in dicts, lists, tuples or dataclasses.

        Every random number that a sample needs, its noise and timestep too, is a function of (seed, index). It may run
        in a worker process. Raises BadSample for one that cannot be read.
        """
        ...

    def losses(self, module: torch.nn.Module, batch: Any, step: int) -> dict[str, torch.Tensor]:
        """Weighted losses by name, each the mean over the batch's samples; their sum is trained on.

        module: `self.module` as prepared for distribution, to be called as a whole; step: updates done
        """
        ...

    def validate(self, module: torch.nn.Module) -> Report:
        """Figures and pictures; every process calls it, with averaged weights in `eval`, without gradients."""
        ...

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """Write what others load to `folder`; one process calls it, with averaged weights."""
        ...
