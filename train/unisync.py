"""`latentsync train unisync` as a script: python train/unisync.py data.manifest=data/manifest.jsonl."""

from __future__ import annotations

import sys

from latentsync.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "unisync", *sys.argv[1:]]))
