"""Everything with state, written so that a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from latentsync.types import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

KEPT = 2  # checkpoints: the newest, and the one before in case that the disk fails
PROGRESS = "progress.json"
UNUSABLE = (RuntimeError, ValueError, KeyError, TypeError, OSError, EOFError, pickle.UnpicklingError, SafetensorError)


@dataclass
class Progress:
    """How far a run is. The data's position and the learning rate follow from `step`."""

    step: int = 0  # updates done
    seen: int = 0  # samples loaded, over all processes
    bad: int = 0  # of them broken and replaced
    not_finite: int = 0  # updates left out because the loss or the gradient was not finite
    stopped: bool = False  # by a validation, before the last update
    processes: int = 1


class Checkpoints:
    """Folders `step_N` of Accelerate's own making, and beside its files the parts with state that it does not know."""

    def __init__(self, accelerator: Accelerator, folder: Path, parts: dict[str, Any], sharded: bool) -> None:
        """parts: name -> object with state_dict and load_state_dict; sharded: each process has a share of them."""
        self.accelerator, self.folder, self.parts, self.sharded = accelerator, folder, parts, sharded

    def save(self, progress: Progress) -> None:
        """Write all state; a reader never sees half of it. All processes call it."""
        accelerator = self.accelerator
        target = self.folder / f"step_{progress.step:08}"
        partial = self.folder / f".{target.name}.partial"
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial))
        if self.sharded or accelerator.is_main_process:
            for name, part in self.parts.items():
                torch.save(part.state_dict(), partial / self._file(name))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (partial / PROGRESS).write_text(json.dumps(asdict(progress)))
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
            for old in self._found()[:-KEPT]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()

    def resume(self) -> Progress:
        """Load the newest checkpoint, if there is one.

        InputError when it does not fit the networks, is damaged, or was made by another number of processes.
        """
        processes = self.accelerator.num_processes
        found = self._found()
        if not found:
            return Progress(processes=processes)
        try:
            progress = Progress(**json.loads((found[-1] / PROGRESS).read_text()))
        except UNUSABLE as error:
            raise self._unusable(found, error) from error
        if progress.processes != processes:
            raise InputError(
                f"{found[-1]} was made by {progress.processes} processes and {processes} are running: start the run "
                "again with as many as before"
            )
        try:
            self.accelerator.load_state(str(found[-1]))
            for name, part in self.parts.items():
                part.load_state_dict(torch.load(found[-1] / self._file(name), map_location="cpu", weights_only=True))
        except UNUSABLE as error:
            raise self._unusable(found, error) from error
        return progress

    @staticmethod
    def _unusable(found: list[Path], error: Exception) -> InputError:
        reason = " ".join(str(error).split())[:300]
        back = f"{found[-2].name} before it" if len(found) > 1 else "the beginning"
        return InputError(
            f"{found[-1]} does not fit this configuration, or is damaged ({reason}): give the configuration it was "
            f"trained with, or another run folder; if a disk failed, remove it and the run goes on from {back}"
        )

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("step_*"))

    def _file(self, name: str) -> str:
        return f"{name}_{self.accelerator.process_index}.pt" if self.sharded else f"{name}.pt"
