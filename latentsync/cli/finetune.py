"""`latentsync finetune`: a checkpoint that knows one person, from a few minutes of their video, in one command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omegaconf import DictConfig

SUMMARY = "Fine-tune a checkpoint on one person's video, and show before and after."
EXAMPLES = """examples:
  latentsync finetune anna.mp4 --out runs/anna --dry-run
  latentsync finetune anna.mp4 --out runs/anna
  latentsync finetune takes/ more.mov --out runs/anna --name anna --checkpoint ByteDance/LatentSync-1.5
  latentsync finetune anna.mp4 --out runs/anna_full --full --set training.run.steps=500
One to five minutes will do. A run that was stopped goes on when it is given again. All options: configs/finetune.yaml.
"""
DEFAULT, FULL = "finetune", "finetune_full"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose video, where to, and changes to the configuration."""
    parser.add_argument("videos", nargs="*", metavar="PATH", help="video files of one person, or folders of them")
    parser.add_argument("--out", metavar="FOLDER", help="where everything goes (default runs/finetune)")
    parser.add_argument("--name", help="of the LoRA (default: that of the folder)")
    parser.add_argument("--checkpoint", metavar="PATH|NAME", help="to begin with (default embedded)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--full", action="store_true", help="train all weights instead of a LoRA")
    kind.add_argument("--config", default=DEFAULT, help="a yaml file or the name of a configuration")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the configuration")
    parser.add_argument("--dry-run", action="store_true", help="tell what would happen; write nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress bar while preparing")


def run(arguments: argparse.Namespace) -> int:
    """Fine-tune and tell."""
    from latentsync.config import load_config

    config = load_config(FULL if arguments.full else arguments.config, arguments.set)
    given = {"folder": arguments.out, "name": arguments.name, "checkpoint": arguments.checkpoint}
    for name, value in {**given, "videos": arguments.videos or None}.items():
        if value is not None:
            config[name] = value
    return run_finetuning(config, dry_run=arguments.dry_run, progress=not arguments.quiet and sys.stderr.isatty())


def run_finetuning(config: DictConfig, *, dry_run: bool, progress: bool) -> int:
    """Prepare, train, compare before and after; the exit status. Each step goes on where it was stopped."""
    from latentsync.cli.before_after import BeforeAfter
    from latentsync.training.finetune import FineTuning

    tuning = FineTuning(config)
    if dry_run:
        print(tuning.plan())
        return 0
    tuned = tuning.run(progress=progress)
    report = BeforeAfter(tuned, config.report, Path(config.folder) / "report").run()
    if tuned.lora is not None:
        print(f"LoRA:       {tuned.lora} (latentsync dub --checkpoint {tuned.base} --lora {tuned.lora} ...)")
    print(f"checkpoint: {tuned.checkpoint} (latentsync dub --checkpoint {tuned.checkpoint} ...)")
    print(f"report:     {report}")
    return 0
