"""Prepare videos for training.

    python train/prepare_data.py --config prepare videos=[clips,part-000.tar] folder=runs/prepared

A killed run goes on where it stopped when the same command is given again. `latentsync prepare` is the same.
"""

from __future__ import annotations

import argparse
import sys

from latentsync.cli.prepare import run_preparation
from latentsync.config import load_config


def main() -> int:
    """Parse the command line and prepare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="prepare", help="a yaml file or the name of a configuration")
    parser.add_argument("--dry-run", action="store_true", help="tell what would happen; write nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the configuration")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    return run_preparation(config, dry_run=arguments.dry_run, progress=sys.stderr.isatty())


if __name__ == "__main__":
    sys.exit(main())
