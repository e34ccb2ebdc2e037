"""`latentsync train videomae` as a script: python train/videomae.py data.manifest=data/manifest.jsonl."""

from __future__ import annotations

import sys

from latentsync.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "videomae", *sys.argv[1:]]))
