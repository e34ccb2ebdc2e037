"""`latentsync train unet` as a script: python train/unet.py --config unet/stage1 data.manifest=data.jsonl."""

from __future__ import annotations

import sys

from latentsync.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "unet", *sys.argv[1:]]))
