"""Train the embedded default from scratch.

    python train/embedded.py videos=[clips,more/clip.mp4] leave_out=[clip_7] validate_on=[clip_8] stage1.run.steps=2000

A killed run goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

from omegaconf import DictConfig

from latentsync.training.embedded import EmbeddedRecipe
from latentsync.training.recipe import run_command


def work(config: DictConfig, _dry_run: bool) -> int:
    """Every stage in order."""
    print(f"The checkpoint is in {EmbeddedRecipe(config).run()}.")
    return 0


if __name__ == "__main__":
    run_command(__doc__, "embedded", work, dry_run=None)
