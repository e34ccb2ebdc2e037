"""`latentsync dub` as a script: python inference.py --video talk.mp4 --audio new.wav --out dubbed.mp4."""

from __future__ import annotations

import sys

from latentsync.cli import main

if __name__ == "__main__":
    sys.exit(main(["dub", *sys.argv[1:]]))
