"""The command line that the recipes of `train/` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig

from latentsync.config import load_config
from latentsync.training.loop.options import RunConfig
from latentsync.training.loop.records import open_run, plan
from latentsync.training.loop.runner import run
from latentsync.training.loop.task import Task
from latentsync.types import InputError

Build = Callable[[DictConfig], tuple[Task, str]]
"""configuration -> the task and the hash of its data"""


Work = Callable[[DictConfig, bool], int]
"""configuration, whether it is a dry run -> exit status"""

BAD_INPUT = 2  # exit status


def run_command(
    description: str | None, default: str, work: Work, dry_run: str, arguments: Sequence[str] | None = None
) -> NoReturn:
    """Parse the command line of a recipe, do its work, and leave with its exit status; bad input is one sentence.

    default: name of the configuration; dry_run: help of `--dry-run`
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=default, help=f"a yaml file or the name of a configuration ({default})")
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the configuration")
    given = parser.parse_args(arguments)
    try:
        sys.exit(work(load_config(given.config, given.overrides), given.dry_run))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


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
