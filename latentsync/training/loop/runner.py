"""One loop for every network: a task says what a batch is and what it costs, the runner does the rest.

Distribution (DDP, FSDP, DeepSpeed) and devices are Accelerate's, set by `accelerate config` or `accelerate launch`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from latentsync.training.loop.averages import Averages
from latentsync.training.loop.checkpoints import Checkpoints
from latentsync.training.loop.devices import enable_gradient_checkpointing, make_accelerator, make_optimizer, to_device
from latentsync.training.loop.logbook import Logbook, Report
from latentsync.training.loop.options import RunConfig
from latentsync.training.loop.records import EXPORTED, note_exported
from latentsync.training.loop.samples import BadSample, Part, Parts, check_share, part_stream
from latentsync.training.loop.task import Task
from latentsync.types import InputError

__all__ = ["BadSample", "Report", "RunConfig", "run"]

NOT_FINITE_LIMIT = 3  # updates with a NaN: the first two are left out, at this one the run stops
EXPORT = "export"  # folder of the finished run's weights, within the run folder


def run(task: Task, config: RunConfig, folder: Path) -> None:
    """Train to the last step, or go on from the newest checkpoint in `folder`; ends with `folder/export`.

    InputError for options that do not go together, a checkpoint that does not fit, more than 1 % bad samples, and at
    the third update whose loss or gradient is not finite.
    """
    _Run(task, config, Path(folder)).train()


class _Run:
    """All objects of one run, in one process."""

    def __init__(self, task: Task, config: RunConfig, folder: Path) -> None:
        self.task, self.config, self.folder = task, config, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = accelerator = make_accelerator(config, folder)
        self.parts = Parts(task.batch, config, accelerator.process_index, accelerator.num_processes)
        if config.gradient_checkpointing:
            enable_gradient_checkpointing(task.module)
        self.sharded = str(accelerator.distributed_type.value) in ("FSDP", "DEEPSPEED")
        self.whole = copy.deepcopy(task.module) if self.sharded and accelerator.is_main_process else None
        self.optimizer: Any
        self.module, self.optimizer = accelerator.prepare(task.module, make_optimizer(task, config))
        self.trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.averages = Averages(self.trained, config.ema_decay)
        parts: dict[str, Any] = {"averages": self.averages}
        if hasattr(task, "state_dict"):
            parts["task"] = task
        self.checkpoints = Checkpoints(accelerator, folder / "checkpoints", parts, self.sharded)
        if hasattr(task, "prepare"):  # before the random state is restored
            task.prepare(accelerator.device)  # type: ignore[attr-defined]
        self.progress = self.checkpoints.resume()

    def train(self) -> None:
        """Every update that is left, then the export."""
        exported = (self.folder / EXPORT).exists() and self._done()
        self.accelerator.wait_for_everyone()  # all processes have looked before one of them exports
        logbook = Logbook(self.accelerator, self.config, self.folder, self.progress.step)
        try:
            self._updates(logbook)
        finally:
            logbook.close()
        if not exported:
            self._export()

    def _done(self) -> bool:
        return self.progress.stopped or self.progress.step >= self.config.steps

    def _updates(self, logbook: Logbook) -> None:
        progress, config = self.progress, self.config
        stream = part_stream(self.parts, progress.step, self.accelerator.device.type == "cuda")
        bar = tqdm(
            total=config.steps, initial=progress.step, disable=not self.accelerator.is_main_process, mininterval=1.0
        )
        if config.validate_first and not progress.step:
            logbook.validation(0, self._validate())
        with bar:
            while not self._done():
                self.module.train()
                parts, waited = self._load(stream)
                figures = self._update(parts)
                progress.step += 1
                bar.update()
                bar.set_postfix(loss=f"{figures['loss']:.4g}", refresh=False)
                logbook.update(progress.step, figures, waited)
                self._now_and_then(logbook)

    def _now_and_then(self, logbook: Logbook) -> None:
        progress, config = self.progress, self.config
        if self._done() or progress.step % config.validate_every == 0:
            report = self._validate()
            logbook.validation(progress.step, report)
            progress.stopped = report.stop
        if self._done() or progress.step % config.save_every == 0:
            self.checkpoints.save(progress)

    def _load(self, stream: Any) -> tuple[list[Part], float]:
        """The parts of one update, and the seconds that were waited for them."""
        started = time.perf_counter()
        parts = [next(stream) for _ in range(self.config.gradient_accumulation)]
        waited = time.perf_counter() - started
        bad = [line for part in parts for line in part.bad]
        if bad:
            with (self.folder / "bad_samples.txt").open("a") as file:
                file.writelines(f"update {self.progress.step}: {line}\n" for line in bad)
        counts = torch.tensor([len(bad)], device=self.accelerator.device)
        self.progress.bad += int(self.accelerator.reduce(counts, "sum"))  # type: ignore[arg-type]
        self.progress.seen += self.config.batch
        check_share(self.progress.bad, self.progress.seen, bad[-1] if bad else "on another process")
        return parts, waited

    def _update(self, parts: list[Part]) -> dict[str, float]:
        """One update of the weights from the batch in `parts`; returns its figures."""
        accelerator, ledgers = self.accelerator, []
        self._set_rate()
        for part in parts:
            batch = to_device(part.batch, accelerator.device)
            with accelerator.accumulate(self.module):
                with accelerator.autocast():
                    ledger = self.task.losses(self.module, batch, self.progress.step)
                accelerator.backward(torch.stack(list(ledger.values())).sum())
            ledgers.append({name: value.detach().float() for name, value in ledger.items()})
        norm = accelerator.clip_grad_norm_(self.trained, self.config.clip)
        figures = self._means(ledgers)
        figures["gradient_norm"] = 0.0 if norm is None else float(norm)
        figures["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        if self._usable(figures, parts):
            self.averages.step()
        self.optimizer.zero_grad()
        figures["bad_samples"], figures["not_finite"] = self.progress.bad, self.progress.not_finite
        return figures

    def _set_rate(self) -> None:
        factor = self.config.rate()(self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group.get("factor", 1.0) * factor

    def _means(self, ledgers: list[dict[str, torch.Tensor]]) -> dict[str, float]:
        """Each loss over all parts and processes, and their sum."""
        names = list(ledgers[0])
        table = torch.stack([torch.stack([ledger[name] for name in names]) for ledger in ledgers]).mean(0)
        values: Any = self.accelerator.reduce(table, "mean")
        means = {f"loss/{name}": value for name, value in zip(names, values.tolist(), strict=True)}
        return {"loss": sum(means.values()), **means}

    def _usable(self, figures: Mapping[str, float], parts: list[Part]) -> bool:
        """Step the optimiser, unless the loss or the gradient is not finite; says whether it was stepped.

        With fp16 a gradient that overflows is everyday life: the scaler sees to it.
        """
        scaled = self.accelerator.scaler is not None
        finite = math.isfinite(figures["loss"]) and (scaled or math.isfinite(figures["gradient_norm"]))
        if finite or scaled:
            self.optimizer.step()
        if not finite:
            self._note_not_finite(figures, parts)
        return finite and not self.optimizer.step_was_skipped

    def _note_not_finite(self, figures: Mapping[str, float], parts: list[Part]) -> None:
        self.progress.not_finite += 1
        folder = self.folder / "not_finite"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"update_{self.progress.step:08}_process_{self.accelerator.process_index}.pt"
        content = {"indices": [part.indices for part in parts], "batches": [part.batch for part in parts]}
        torch.save({**content, "figures": dict(figures)}, path)
        if self.progress.not_finite >= NOT_FINITE_LIMIT:
            raise InputError(
                f"the loss or its gradient was not finite in {self.progress.not_finite} updates, the last one number "
                f"{self.progress.step} ({dict(figures)}); {path} holds the batch: in another run_folder, lower "
                "run.learning_rate or use run.precision=bf16 or no"
            )

    def _validate(self) -> Report:
        self.module.eval()
        cards = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(cards), self.averages.applied(), self.accelerator.autocast():
            return self.task.validate(self.module)

    def _export(self) -> None:
        """Averaged weights to the task's `export`; where they are sharded, through a whole copy of the module."""
        accelerator = self.accelerator
        with self.averages.applied():
            if self.sharded:
                state = accelerator.get_state_dict(self.module)
            if accelerator.is_main_process:
                module = accelerator.unwrap_model(self.module, keep_fp32_wrapper=False)
                if self.whole is not None:
                    self.whole.load_state_dict(state)
                    module = self.whole
                (self.folder / EXPORTED).unlink(missing_ok=True)  # of the weights that are replaced now
                self.task.export(module.eval(), self.folder / EXPORT)
                note_exported(self.folder, getattr(self.task, "exported_updates", self.progress.step))
        accelerator.wait_for_everyone()
