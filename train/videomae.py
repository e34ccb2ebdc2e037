r"""Pretrain a small VideoMAE on our own clips, as TREPA's critic.

    python train/videomae.py data.manifest=data/manifest.jsonl
    python train/videomae.py data.crops=crops data.validation=[clip_7] run_folder=runs/videomae

The network is in RUN_FOLDER/export. A killed run goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

from latentsync.training.recipe import command
from latentsync.training.videomae import build

if __name__ == "__main__":
    command(__doc__, "videomae", build)
