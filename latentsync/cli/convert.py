"""`latentsync convert`: between a published checkpoint and a folder of ours."""

from __future__ import annotations

import argparse

SUMMARY = "Turn a published .pt checkpoint into a folder of ours, or a folder back into a .pt file."
EXAMPLES = """examples:
  latentsync convert latentsync_unet.pt my-checkpoint
  latentsync convert my-checkpoint latentsync_unet.pt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Source and destination."""
    parser.add_argument("source", metavar="SRC", help="a published .pt file or a folder of ours")
    parser.add_argument("destination", metavar="DST", help="a new folder or a new .pt file")


def run(arguments: argparse.Namespace) -> int:
    """Convert; the result appears whole or not at all."""
    from latentsync.hub import convert

    convert(arguments.source, arguments.destination)
    print(f"{arguments.source} -> {arguments.destination}")
    return 0
