r"""Train UniSync, the critic that says whether a mouth belongs to a sound from any pair of representations.

    python train/unisync.py data.manifest=data/manifest.jsonl
    python train/unisync.py --config unisync_small data.manifest=data/manifest.jsonl visual.kind=landmarks
    python train/unisync.py --config unisync_small data.manifest=data/manifest.jsonl audio.kind=features \
        audio.encoder=facebook/hubert-large-ll60k run_folder=runs/unisync_hubert

The checkpoint is in RUN_FOLDER/export. A killed run goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

from latentsync.training.recipe import command
from latentsync.training.unisync import build

if __name__ == "__main__":
    command(__doc__, "unisync", build)
