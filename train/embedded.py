"""`latentsync train embedded` as a script: python train/embedded.py videos=[clips] leave_out=[clip_7]."""

from __future__ import annotations

import sys

from latentsync.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "embedded", *sys.argv[1:]]))
