"""Fine-tune a checkpoint on one person's video.

    python train/finetune.py videos=[anna.mp4] folder=runs/anna
    python train/finetune.py --config finetune_full videos=[takes] folder=runs/anna training.run.steps=500

A killed run goes on where it stopped when the same command is given again. `latentsync finetune` is the same.
"""

from __future__ import annotations

import argparse
import sys

from latentsync.cli.finetune import DEFAULT, run_finetuning
from latentsync.config import load_config


def main() -> int:
    """Parse the command line and fine-tune."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=DEFAULT, help="a yaml file or the name of a configuration")
    parser.add_argument("--dry-run", action="store_true", help="tell what would happen; write nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the configuration")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    return run_finetuning(config, dry_run=arguments.dry_run, progress=sys.stderr.isatty())


if __name__ == "__main__":
    sys.exit(main())
