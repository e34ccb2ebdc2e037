"""What a run folder says of its run: the merged configuration, the code, the data; and what a run would cost."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

import latentsync
from latentsync.config import PACKAGE, save_config
from latentsync.data.crops import ClipCrops
from latentsync.data.preparation.store import write_whole
from latentsync.training.loop.options import RunConfig
from latentsync.training.loop.runtime import is_main_process
from latentsync.types import InputError

CONFIG, RECORD, EXPORTED = "config.yaml", "run.json", "exported.json"
# What may change between two starts of one run without making it another.
CHANGEABLE = ("run_folder", "run.steps", "run.workers", "run.save_every", "run.validate_every", "run.log")
GIT_SECONDS = 10.0
BYTES = 4  # of a float32
ADAM_STATES = {"adamw": 2 * BYTES, "adamw8bit": 2}  # bytes a parameter, for the two moments
GIB = 2**30


def open_run(folder: Path, config: DictConfig, data_hash: str) -> None:
    """Note configuration, code and data in `folder`, or check that they are those of the run that began there.

    InputError names the options or the data that have changed since.
    """
    if not is_main_process():
        return
    if (folder / CONFIG).exists() and (folder / RECORD).exists():
        _check(folder, config, data_hash)
    record = {"version": latentsync.__version__, "git": git_hash(), "data": data_hash, "torch": torch.__version__}
    text = json.dumps(record, indent=1) + "\n"
    write_whole(folder / CONFIG, lambda file: save_config(config, file))
    write_whole(folder / RECORD, lambda file: file.write_text(text, encoding="utf-8"))


def _check(folder: Path, config: DictConfig, data_hash: str) -> None:
    before = dict(_flat(OmegaConf.to_container(OmegaConf.load(folder / CONFIG), resolve=True)))
    now = dict(_flat(OmegaConf.to_container(config, resolve=True)))
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(CHANGEABLE)
    ]
    if changed:
        raise InputError(
            f"{folder} holds a run of another configuration ({'; '.join(changed[:5])}): give another run_folder, or "
            "the same options to go on with it"
        )
    if json.loads((folder / RECORD).read_text())["data"] != data_hash:
        raise InputError(f"the data have changed since the run in {folder} began: give another run_folder")


def _flat(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in group.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def note_exported(folder: Path, updates: int) -> None:
    """Note how many updates the weights had that the run in `folder` exported."""
    text = json.dumps({"updates": updates}) + "\n"
    write_whole(folder / EXPORTED, lambda file: file.write_text(text, encoding="utf-8"))


def read_exported(folder: Path) -> int | None:
    """What `note_exported` noted; None where nothing was."""
    path = folder / EXPORTED
    return int(json.loads(path.read_text(encoding="utf-8"))["updates"]) if path.is_file() else None


def git_hash() -> str:
    """Commit of the checkout that this package lies in, with "+" where files differ from it; "" without one."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return ""
    try:
        commit, changes = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")


def clips_hash(clips: Sequence[ClipCrops]) -> str:
    """Of the names, lengths, sound and first pictures of all clips."""
    digest = hashlib.blake2b(digest_size=16)
    for clip in clips:
        digest.update(f"{clip.name} {clip.crops.shape} {clip.speaker}\n".encode())
        for array in (clip.times, clip.waveform, clip.crops[0]):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def plan(module: torch.nn.Module, config: RunConfig) -> str:
    """What a run would train and hold in memory, in words: parameters, memory besides activations, updates."""
    everything = sum(parameter.numel() for parameter in module.parameters())
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    averaged = BYTES if config.ema_decay else 0
    states = {
        "weights": BYTES * everything,
        "gradients": BYTES * trained,
        "optimiser": ADAM_STATES[config.optimizer] * trained,
        "moving average": averaged * trained,
    }
    parts = ", ".join(f"{name} {size / GIB:.3f}" for name, size in states.items())
    return (
        f"parameters: {everything:,}, of them trained: {trained:,}\n"
        f"memory on each device: {sum(states.values()) / GIB:.3f} GiB ({parts}), without activations and frozen nets\n"
        f"updates: {config.steps:,} of {config.batch} samples, {config.steps * config.batch:,} samples in all\n"
        f"precision: {config.precision}, gradient checkpointing: {'on' if config.gradient_checkpointing else 'off'}"
    )
