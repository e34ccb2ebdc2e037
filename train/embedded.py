"""Train the embedded default from scratch.

    python train/embedded.py videos=[clips,more/clip.mp4] leave_out=[clip_7] validate_on=[clip_8] stage1.run.steps=2000

A killed run goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys

from latentsync.config import load_config
from latentsync.training.embedded import EmbeddedRecipe
from latentsync.types import InputError


def main() -> None:
    """Parse the command line and run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="embedded", help="a yaml file or the name of a configuration")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the configuration")
    arguments = parser.parse_args()
    try:
        folder = EmbeddedRecipe(load_config(arguments.config, arguments.overrides)).run()
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"The checkpoint is in {folder}.")


if __name__ == "__main__":
    main()
