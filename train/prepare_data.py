"""Prepare videos for training.

    python train/prepare_data.py --config prepare videos=[clips,part-000.tar] folder=runs/prepared

A killed run goes on where it stopped when the same command is given again. `latentsync prepare` is the same.
"""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from latentsync.cli.prepare import run_preparation
from latentsync.training.loop.recipe import run_command


def work(config: DictConfig, dry_run: bool) -> int:
    """What `latentsync prepare` does."""
    return run_preparation(config, dry_run=dry_run, progress=sys.stderr.isatty())


if __name__ == "__main__":
    run_command(__doc__, "prepare", work, "tell what would happen; write nothing")
