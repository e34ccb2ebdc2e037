"""`latentsync train stable_syncnet` as a script: python train/stable_syncnet.py manifest=data/manifest.jsonl."""

from __future__ import annotations

import sys

from latentsync.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "stable_syncnet", *sys.argv[1:]]))
