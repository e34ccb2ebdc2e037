"""Early stopping: the run ends when the held-out loss does not fall any more, and the best weights are exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_task import Killed, LineTask, lines, options

from latentsync.training.loop.best import BestOnHeldOut
from latentsync.training.loop.records import read_exported
from latentsync.training.loop.runner import Report, run
from latentsync.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
LOSSES = [5.0, 4.0, 2.0, 3.0, 2.0, 2.5, 1.0, 1.0]  # of one validation after another, the first before any update
RUN = {"steps": 7, "validate_every": 1, "validate_first": True, "save_every": 1, "ema_decay": 0.7}


class Told(LineTask):
    """Its validations say what is told them; it remembers with what weights."""

    def __init__(self, **changes) -> None:
        super().__init__(**changes)
        self.validations, self.seen = 0, []

    def prepare(self, device: torch.device) -> None: ...

    def validate(self, module: torch.nn.Module) -> Report:
        self.validations += 1
        self.seen.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return Report({"loss": LOSSES[self.validations - 1]})

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self.validations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.validations = state["validations"]


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "weights.safetensors")


def test_the_best_weights_are_kept_and_patience_ends_the_run(tmp_path) -> None:
    task = Told()
    run(BestOnHeldOut(task, patience=3), options(**RUN), tmp_path)
    assert [entry["validation/loss"] for entry in lines(tmp_path) if "validation/loss" in entry] == LOSSES[:6]
    assert task.validations == 3  # the inner task exports as it was at its best
    found = exported(tmp_path)
    assert all(torch.equal(tensor, task.seen[2][name]) for name, tensor in found.items())
    assert any(not torch.equal(tensor, task.seen[5][name]) for name, tensor in found.items())
    assert read_exported(tmp_path) == 2


def test_where_nothing_gets_better_the_first_weights_come_out(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "LOSSES", [1.0, 2.0, 1.5, 1.0])
    task = Told()
    before = {name: tensor.clone() for name, tensor in task.module.state_dict().items()}
    run(BestOnHeldOut(task, patience=2), options(**RUN), tmp_path)
    assert task.module.training is False and len(task.seen) == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in exported(tmp_path).items())
    assert read_exported(tmp_path) == 0


def test_losses_that_are_no_numbers_choose_no_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "LOSSES", [float("nan")] * 3)
    with pytest.raises(InputError, match="no held-out loss of 2 validations was a number"):
        run(BestOnHeldOut(Told(), patience=2), options(**RUN), tmp_path)
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("kill_at", [0, 4])
def test_a_killed_run_forgets_nothing(tmp_path, kill_at) -> None:
    run(BestOnHeldOut(Told(), patience=3), options(**RUN), tmp_path / "whole")
    with pytest.raises(Killed):
        run(BestOnHeldOut(Told(kill_at=kill_at), patience=3), options(**RUN), tmp_path / "killed")
    run(BestOnHeldOut(Told(), patience=3), options(**RUN), tmp_path / "killed")
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    assert read_exported(tmp_path / "killed") == read_exported(tmp_path / "whole") == 2
    assert all(torch.equal(t, exported(tmp_path / "killed")[name]) for name, t in exported(tmp_path / "whole").items())
