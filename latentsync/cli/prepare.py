"""`latentsync prepare`: raw videos -> aligned crops, cached mels and a manifest that trainings read."""

from __future__ import annotations

import argparse
import sys

from omegaconf import DictConfig

SUMMARY = "Prepare videos for training: drop what is broken, cut, align faces, check the sync, write a manifest."
EXAMPLES = """examples:
  latentsync prepare videos/ --out runs/prepared --dry-run
  latentsync prepare videos/ --out runs/prepared
  latentsync prepare videos/ shards/part-000.tar --out runs/prepared --set resolution=256 sync.critic=stable_syncnet.pt
  latentsync prepare --config my_prepare.yaml
A run that was stopped goes on when it is given again. All options: configs/prepare.yaml.
"""
FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to read, where to write, and changes to the configuration."""
    parser.add_argument("videos", nargs="*", metavar="PATH", help="video files, folders of them, .tar shards")
    parser.add_argument("--out", metavar="FOLDER", help="where everything goes (default runs/prepared)")
    parser.add_argument("--config", default="prepare", help="a yaml file or the name of a configuration")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the configuration")
    parser.add_argument("--dry-run", action="store_true", help="tell what would happen; write nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    """Prepare and tell; 1 when the program met errors of its own."""
    from latentsync.config import load_config

    config = load_config(arguments.config, arguments.set)
    if arguments.videos:
        config.videos = arguments.videos
    if arguments.out is not None:
        config.folder = arguments.out
    return run_preparation(config, dry_run=arguments.dry_run, progress=not arguments.quiet and sys.stderr.isatty())


def run_preparation(config: DictConfig, *, dry_run: bool, progress: bool) -> int:
    """Prepare what a merged configuration names, or say what would be done; the exit status."""
    from latentsync.data.preparation.plan import plan_preparation
    from latentsync.data.preparation.run import prepare_data

    if dry_run:
        print("\n".join(plan_preparation(config).lines()))
        return 0
    done = prepare_data(config, progress=progress)
    print("\n".join([*done.report.lines(), *(f"extracted {line}" for line in done.extracted)]))
    print(f"manifest: {done.manifest.path}\nreport:   {done.report.path} and .png")
    return FAILED if done.report.defects else 0
