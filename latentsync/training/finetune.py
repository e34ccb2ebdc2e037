"""Fine-tune a checkpoint on one person: prepare their video, hold out a part of it in time, train until that is best.

Before and after are compared where all rooms meet, in `cli.finetune`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from latentsync.config import load_config
from latentsync.data.manifest import Manifest, ManifestEntry, write_manifest
from latentsync.data.preparation.plan import plan_preparation
from latentsync.data.preparation.run import prepare_data
from latentsync.data.preparation.sources import Shard, find_sources
from latentsync.data.preparation.speakers import TRAIN, VALIDATION
from latentsync.hub import Components, load_components
from latentsync.training.loop.best import BestOnHeldOut
from latentsync.training.loop.options import RunConfig
from latentsync.training.loop.recipe import train
from latentsync.training.loop.records import plan
from latentsync.training.loop.runner import EXPORT
from latentsync.training.loop.runtime import launched_processes
from latentsync.training.loop.task import Task
from latentsync.training.unet.build import EXPORTED_DEFAULTS, make_task
from latentsync.training.unet.data import read_clips
from latentsync.training.unet.task import LORA
from latentsync.types import InputError

PREPARED, RUN = "prepared", "run"  # folders within that of a fine-tuning
MANIFEST = "one_speaker.jsonl"
LEAST_HELD_OUT = 2  # segments: each is dubbed with the sound of another
LEAST_TRAINED = 1
MOST_HELD_OUT = 0.5  # share of the time
SLACK = 1e-6  # seconds, above the rounding of sums of times
LITTLE = 60.0  # seconds of video under which a result is a matter of luck


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning leaves, besides its report."""

    name: str
    base: str  # checkpoint that it began with
    run: Path
    held_out: tuple[ManifestEntry, ...]
    manifest: Manifest

    @property
    def checkpoint(self) -> Path:
        """The whole checkpoint, a LoRA merged into it."""
        return self.run / EXPORT

    @property
    def lora(self) -> Path | None:
        """The LoRA alone, where one was trained."""
        folder = self.run / LORA
        return folder if folder.is_dir() else None


class FineTuning:
    """The steps, over a merged configuration of the form of `configs/finetune.yaml`."""

    def __init__(self, config: DictConfig) -> None:
        """InputError for senseless options or several processes; files are looked at, nothing is computed."""
        check_alone()
        check_options(config)
        self.config, self.folder = config, Path(config.folder)
        self.name = config.name or self.folder.resolve().name
        start = load_components(config.checkpoint)
        self.preparing, self.training = self._preparing(start), self._training(start)

    def plan(self) -> str:
        """What would be done, in words; writes nothing."""
        preparation = plan_preparation(self.preparing).lines()
        task = make_task(self.training, [], [])
        return "\n".join([*preparation, plan(task.module, RunConfig.from_config(self.training.run))])

    def run(self, *, progress: bool = True) -> FineTuned:
        """Prepare and train; what is done already is not done again. InputError as its parts raise it."""
        manifest = self.prepare(progress=progress)
        run = train(self.training, self.build)
        held_out = tuple(entry for entry in manifest.entries if entry.split == VALIDATION)
        return FineTuned(self.name, str(self.config.checkpoint), run, held_out, manifest)

    def prepare(self, *, progress: bool = True) -> Manifest:
        """The segments of the person's video, the last of them held out."""
        prepared = prepare_data(self.preparing, progress=progress).manifest
        entries = hold_out([replace(entry, speaker=self.name) for entry in prepared.entries], self.config.held_out)
        seconds = sum(entry.end - entry.start for entry in entries)
        if seconds < LITTLE:
            told = f"only {seconds:.0f} s of the videos can be used ({prepared.path.parent / 'report.json'} says why)"
            warnings.warn(f"{told}: one to five minutes are wanted", UserWarning, stacklevel=2)
        return write_manifest(self.folder / PREPARED / MANIFEST, entries, prepared.settings)

    def build(self, config: DictConfig) -> tuple[Task, str]:
        """As `unet_build.build`, ended by what is held out."""
        training, held_out, data_hash = read_clips(config)
        return BestOnHeldOut(make_task(config, training, held_out), self.config.patience), data_hash

    def _preparing(self, start: Components) -> DictConfig:
        settled = {
            "videos": list(self.config.videos),
            "folder": str(self.folder / PREPARED),
            "resolution": start.settings.resolution,
        }
        return settle(self.config.prepare, settled, "prepare", load_config("prepare"))

    def _training(self, start: Components) -> DictConfig:
        defaults = {"context_steadiness": 0.0, "region": "face", **start.settings.defaults}
        settled: dict[str, Any] = {
            "run_folder": str(self.folder / RUN),
            "start_from": str(self.config.checkpoint),
            "resolution": start.settings.resolution,
            "data.manifest": str(self.folder / PREPARED / MANIFEST),
            "data.context_steadiness": defaults["context_steadiness"],
            "unet.temporal": start.unet.config["temporal"],
            "lora.name": self.name,
        }
        settled |= {f"export.{key}": defaults[key] for key in EXPORTED_DEFAULTS}
        return settle(self.config.training, settled, "training", load_config("unet/default"))


def check_alone() -> None:
    """InputError where several processes were launched: each would prepare, dub and write the same files."""
    if launched_processes() > 1:
        raise InputError(
            f"fine-tuning runs in one process and {launched_processes()} were launched: start it without accelerate "
            "launch, or train on many with train/unet.py (start_from, data.manifest, lora.rank)"
        )


def check_options(config: DictConfig) -> None:
    """InputError for options of a fine-tuning that make no sense together."""
    if not config.videos:
        raise InputError("no video is given: name files or folders of one person speaking")
    if any(isinstance(source, Shard) for source in find_sources(map(str, config.videos))):
        raise InputError("fine-tuning reads video files and folders of them, no .tar shards: unpack them first")
    if not 0 < config.held_out <= MOST_HELD_OUT:
        raise InputError(
            f"held_out is {config.held_out:g}: give a share of the time above 0, at most {MOST_HELD_OUT:g}"
        )
    if config.patience < 1 or config.report.pairs < LEAST_HELD_OUT:
        raise InputError(f"patience must be at least 1 and report.pairs at least {LEAST_HELD_OUT}")
    if config.training.lora.rank and config.training.audio_encoder.rate:
        raise InputError(
            "a LoRA changes the UNet alone: leave training.audio_encoder.rate at 0, or train all weights (--full)"
        )


def settle(group: DictConfig, settled: dict[str, Any], where: str, default: DictConfig) -> DictConfig:
    """A copy of a group of options with those filled in that fine-tuning decides by itself.

    InputError where one of them was changed: it would be ignored.
    """
    whole = OmegaConf.create(OmegaConf.to_container(group))
    assert isinstance(whole, DictConfig)
    for key, value in settled.items():
        if OmegaConf.select(group, key) != OmegaConf.select(default, key):
            raise InputError(
                f"{where}.{key} is decided by the checkpoint, the folder and the videos that are given: leave it out"
            )
        OmegaConf.update(whole, key, value)
    return whole


def hold_out(entries: Sequence[ManifestEntry], share: float) -> list[ManifestEntry]:
    """The segments, in order of time, of which the last are held out: whole ones, `share` of the time or a little more.

    InputError where there are too few to train on some and to hold out others.
    """
    if len(entries) < LEAST_TRAINED + LEAST_HELD_OUT:
        raise InputError(
            f"the videos give {len(entries)} segment(s), and fine-tuning needs {LEAST_TRAINED + LEAST_HELD_OUT}: give "
            "more video of this person, or smaller prepare.segments.shortest and prepare.segments.longest"
        )
    wanted, first = share * sum(entry.end - entry.start for entry in entries), len(entries)
    while first > LEAST_TRAINED and (wanted > SLACK or len(entries) - first < LEAST_HELD_OUT):
        first -= 1
        wanted -= entries[first].end - entries[first].start
    return [replace(entry, split=TRAIN if number < first else VALIDATION) for number, entry in enumerate(entries)]
