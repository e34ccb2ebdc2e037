"""`latentsync lora`: what LoRAs there are, and a checkpoint with some of them added for good."""

from __future__ import annotations

import argparse
from pathlib import Path

from latentsync.types import InputError

SUMMARY = "List the LoRAs of a folder, or add some to a checkpoint for good."
EXAMPLES = """examples:
  latentsync lora list runs/
  latentsync lora merge embedded runs/anna/run/lora --to anna-checkpoint
  latentsync lora merge embedded runs/anna/run/lora:0.7 runs/studio/run/lora:0.3 --to mixed
  latentsync dub --lora runs/anna/run/lora --video talk.mp4 --audio new.wav --out dubbed.mp4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|merge")
    listing = actions.add_parser("list", help="what LoRAs a folder holds")
    listing.add_argument("folder", metavar="FOLDER", help="searched through")
    merging = actions.add_parser("merge", help="a checkpoint with LoRAs added to its weights")
    merging.add_argument("checkpoint", metavar="CHECKPOINT", help="what they were trained on: folder, .pt file, name")
    merging.add_argument("loras", nargs="+", metavar="LORA[:WEIGHT]", help="folders, each with its weight (1)")
    merging.add_argument("--to", required=True, metavar="FOLDER", help="the new checkpoint")


def run(arguments: argparse.Namespace) -> int:
    """List or merge."""
    if arguments.action == "list":
        return list_loras(Path(arguments.folder))
    return merge(arguments.checkpoint, arguments.loras, Path(arguments.to))


def list_loras(folder: Path) -> int:
    """A line for each."""
    from latentsync.hub.loras import find_loras

    for path, card in find_loras(folder):
        figures = "".join(f", held-out {name} {value:.4f}" for name, value in card.figures.items())
        print(
            f"{card.name}: {path}, for {card.base} (UNet {card.base_unet[:12]}), {card.steps} updates on {card.clips} "
            f"clips, {card.seconds:.0f} s{figures}"
        )
    return 0


def merge(checkpoint: str, loras: list[str], to: Path) -> int:
    """Write the checkpoint with the LoRAs in it, in half precision; it appears whole or not at all.

    InputError where it would take the place of the one that it is made from.
    """
    import torch

    if Path(checkpoint).exists() and Path(checkpoint).resolve() == to.resolve():
        raise InputError(f"--to {to} would replace the checkpoint that the LoRAs are added to: give another folder")

    from latentsync.hub import load_components, save_folder
    from latentsync.hub.loras import with_loras

    card = merged_card(to.name, checkpoint, loras)
    merged = with_loras(load_components(checkpoint), loras)
    save_folder(
        to,
        unet=merged.unet,
        vae=merged.vae,
        audio_encoder=merged.audio_encoder,
        settings=merged.settings,
        card=card,
        dtype=torch.float16,
    )
    print(f"{checkpoint} + {' + '.join(loras)} -> {to}")
    return 0


def merged_card(name: str, checkpoint: str, loras: list[str]) -> str:
    """What a merged checkpoint says of itself: what each LoRA was trained on, and what the card of its base says.

    Paths of this machine are not told. CheckpointError where a LoRA is none.
    """
    from latentsync.hub.card import retold
    from latentsync.hub.folder import CARD
    from latentsync.hub.loras import WeightedLora, read_card
    from latentsync.hub.networks import UNET_FILE, locate
    from latentsync.training.loop.provenance import own_name

    lines = []
    for lora in map(WeightedLora.parse, loras):
        card = read_card(lora.path)
        data = f", hash of the data `{card.data}`" if card.data else ""
        lines.append(
            f"- `{card.name}`, weight {lora.weight:g}: {card.steps} updates on {card.clips} clips "
            f"({card.seconds:.0f} s{data}), trained on `{own_name(card.base)}`"
        )
    base = own_name(checkpoint)
    told = [f"# {name}", f"`{base}` with LoRAs added for good:", "\n".join(lines)]
    own = locate(checkpoint, UNET_FILE) / CARD
    if own.is_file():
        told += [f"## What the card of `{base}` says", retold(own.read_text(encoding="utf-8"))]
    return "\n\n".join(told) + "\n"
