"""The command line that the recipes of `train/` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from latentsync.config import load_config
from latentsync.training.options import RunConfig
from latentsync.training.records import open_run, plan
from latentsync.training.runner import Task, run
from latentsync.types import InputError

Build = Callable[[DictConfig], tuple[Task, str]]
"""configuration -> the task and the hash of its data"""


def command(description: str | None, default: str, build: Build, arguments: Sequence[str] | None = None) -> None:
    """Parse the command line of a recipe and train.

    default: name of the configuration; it has the entry `run_folder` and the group `run:` (see `RunConfig`)
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=default, help=f"a yaml file or the name of a configuration ({default})")
    parser.add_argument("--dry-run", action="store_true", help="print parameters, memory and steps, and stop")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the configuration")
    given = parser.parse_args(arguments)
    try:
        train(load_config(given.config, given.overrides), build, given.dry_run)
    except InputError as error:
        sys.exit(f"error: {error}")


def train(config: DictConfig, build: Build, dry_run: bool = False) -> Path:
    """Train what `build` makes of `config`, or print what that would take; returns the run folder.

    InputError for whatever the user can do something about.
    """
    options, folder = RunConfig.from_config(config.run), Path(config.run_folder)
    task, data_hash = build(config)
    if dry_run:
        print(plan(task.module, options))
        return folder
    open_run(folder, config, data_hash)
    run(task, options, folder)
    return folder
