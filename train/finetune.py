"""Fine-tune a checkpoint on one person's video.

    python train/finetune.py videos=[anna.mp4] folder=runs/anna
    python train/finetune.py --config finetune_full videos=[takes] folder=runs/anna training.run.steps=500

A killed run goes on where it stopped when the same command is given again. `latentsync finetune` is the same.
"""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from latentsync.cli.finetune import DEFAULT, run_finetuning
from latentsync.training.loop.recipe import run_command


def work(config: DictConfig, dry_run: bool) -> int:
    """What `latentsync finetune` does."""
    return run_finetuning(config, dry_run=dry_run, progress=sys.stderr.isatty())


if __name__ == "__main__":
    run_command(__doc__, DEFAULT, work, "tell what would happen; write nothing")
