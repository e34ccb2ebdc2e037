"""Train StableSyncNet, the critic that says whether a mouth belongs to a sound.

    python train/stable_syncnet.py manifest=data/manifest.jsonl run.gradient_accumulation=32
    python train/stable_syncnet.py --config stable_syncnet_small manifest=data/manifest.jsonl run_folder=runs/critic

The checkpoint is in RUN_FOLDER/export. A killed run goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

from latentsync.training.recipe import command
from latentsync.training.stable_syncnet import build

if __name__ == "__main__":
    command(__doc__, "stable_syncnet", build)
