"""`latentsync evaluate`: dubs, or a checkpoint that is to make some, between doing nothing and the truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentsync.types import InputError

if TYPE_CHECKING:
    from latentsync.evaluation.items import Item

SUMMARY = "Measure dubs: sync, articulation, silence, identity, quality, stability, cost."
EXAMPLES = """examples:
  latentsync evaluate --dubbed dubbed.mp4 --audio new.wav --source talk.mp4 --out report
  latentsync evaluate --manifest dubs.jsonl --out report --syncnet syncnet_v2.model
  latentsync evaluate --checkpoint embedded --video talk.mp4 --audio new.wav --out report
  latentsync evaluate --list
a line of dubs.jsonl (paths from the file's own folder; only `dubbed` is needed):
  {"dubbed": "a.mp4", "audio": "a.wav", "source": "talk.mp4", "truth": "right.mp4", "phonemes": [["M", 0.1, 0.2]]}
"""
FAILED = 1  # exit status when some dubs could not be measured
DUB_FILES, TIMES = ("audio", "source", "truth", "dub_report"), ("phonemes", "words")
BELONGS = {
    "dubbed": (*DUB_FILES, *TIMES, "face"),
    "manifest": (),
    "checkpoint": ("video", "audio"),
}  # to what is measured
CRITICS = ("syncnet", "stable_syncnet", "unisync")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, with what, and where the report goes."""
    parser.add_argument("--list", action="store_true", help="print every metric, its origin and what it needs")
    parser.add_argument("--out", default="outputs/evaluation", metavar="FOLDER", help="default outputs/evaluation")
    _add_dub(parser.add_argument_group("a dub, or many"))
    _add_checkpoint(parser.add_argument_group("a checkpoint: dubs are made in four settings"))
    _add_networks(parser.add_argument_group("networks for measuring (without its own a figure is missing)"))


def _add_dub(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dubbed", metavar="PATH", help="a dubbed video")
    group.add_argument("--manifest", metavar="DUBS.jsonl", help="many dubs, one JSON object a line")
    group.add_argument("--audio", metavar="PATH", help="what it was to speak (default: its own sound)")
    group.add_argument("--source", metavar="PATH", help="the video that was dubbed")
    group.add_argument("--truth", metavar="PATH", help="the right answer, picture by picture")
    group.add_argument("--phonemes", metavar="PATH", help="JSON: [[sound, start, stop], ...] in seconds, ARPAbet")
    group.add_argument("--words", metavar="PATH", help="the same of words, or an .align file")
    group.add_argument("--face", metavar="INDEX|X,Y", help="whose mouth was dubbed, as for `latentsync dub`")
    group.add_argument("--dub-report", metavar="PATH", help="JSON that `latentsync dub --report` wrote")


def _add_checkpoint(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint", metavar="PATH|NAME", help="as for `latentsync dub`")
    group.add_argument("--video", metavar="PATH", help="a talking face with its own sound; --audio is another's")
    group.add_argument("--seed", type=int, default=0, help="of the dubs (default 0)")
    group.add_argument("--device", default="auto", metavar="auto|cuda|mps|cpu")


def _add_networks(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--syncnet", metavar="PATH", help="SyncNet v2: LSE-C, LSE-D, offset")
    group.add_argument("--stable-syncnet", metavar="PATH|NAME", help="a StableSyncNet of pixels")
    group.add_argument("--unisync", metavar="PATH", help="a UniSync: p_sync")
    group.add_argument("--unisync-encoder", metavar="PATH|NAME", help="whose features it listens to, such as HuBERT")
    group.add_argument("--unisync-landmarker", metavar="PATH", help="the .task file whose blendshapes it looks at")
    group.add_argument(
        "--unisync-parser", metavar="PATH|NAME", help="the face-parsing network whose regions it looks at"
    )
    group.add_argument("--identity-weights", metavar="PATH", help="face recognition, MobileFaceNet .ckpt")
    group.add_argument("--lpips-backbone", metavar="PATH", help="torchvision's vgg16 file")
    group.add_argument("--lpips-heads", metavar="PATH", help="lpips_v0.1_vgg.pth")
    group.add_argument("--fid-weights", metavar="PATH", help="pt_inception-2015-12-05-6726825d.pth")
    group.add_argument("--fvd-features", metavar="PATH|NAME", help="a VideoMAE")
    group.add_argument(
        "--trained-with",
        action="append",
        default=[],
        choices=CRITICS,
        help="a critic that the model was trained with, so that it is marked; a checkpoint may tell it itself",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print its tables; 1 when dubs of a manifest had to be left out."""
    from latentsync.evaluation.registry import describe

    if arguments.list:
        print(describe(), end="")
        return 0
    from latentsync.evaluation.evaluate import evaluate
    from latentsync.evaluation.instruments import FILES, load_instruments
    from latentsync.evaluation.report.files import write_files
    from latentsync.evaluation.report.tables import markdown

    _check(arguments)
    instruments = load_instruments({name: getattr(arguments, name) for name in FILES})
    items = _items(arguments)
    trained_with = frozenset(arguments.trained_with) | _told(arguments.checkpoint, items)
    evaluation = evaluate(items, replace(instruments, trained_with=trained_with))
    files = write_files(evaluation, Path(arguments.out))
    print(markdown(evaluation))
    print(f"report:  {next(file for file in files if file.suffix == '.html')}")
    return FAILED if evaluation.errors else 0


def _check(arguments: argparse.Namespace) -> None:
    """raises: InputError unless exactly one thing to measure was named, with what belongs to it"""
    ways = [name for name in BELONGS if getattr(arguments, name) is not None]
    if len(ways) != 1:
        told = " and ".join(f"--{name}" for name in ways) or "nothing"
        raise InputError(f"{told} was given to be measured; give one of --dubbed, --manifest and --checkpoint")
    for name in {name for names in BELONGS.values() for name in names} - set(BELONGS[ways[0]]):
        if getattr(arguments, name) is not None:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} does not go with --{ways[0]} (see latentsync evaluate --help)")
    if arguments.checkpoint is not None and (arguments.video is None or arguments.audio is None):
        raise InputError("--checkpoint needs --video, a talking face, and --audio, another's speech: give both")


def _told(checkpoint: str | None, items: Iterable[Item]) -> frozenset[str]:
    """Critics that what made the dubs was trained with: the checkpoint that is measured, or those that reports name."""
    from latentsync.evaluation.families.cost import read_report
    from latentsync.hub.trained_with import sync_critics

    checkpoints = {checkpoint}
    for report in {item.dub_report for item in items if item.dub_report is not None}:
        with suppress(InputError):  # told where the dub is measured
            checkpoints.add(read_report(report).get("checkpoint"))
    return frozenset[str]().union(*(sync_critics(str(name)) for name in checkpoints if name))


def _items(arguments: argparse.Namespace) -> list[Item]:
    from latentsync.evaluation.items import Item, read_items, read_times
    from latentsync.faces.tracking import parse_face

    if arguments.manifest is not None:
        return read_items(Path(arguments.manifest))
    if arguments.checkpoint is not None:
        from latentsync.cli.settings import dub_settings

        return dub_settings(arguments)
    given = {name: Path(value) for name in (*DUB_FILES, *TIMES) if (value := getattr(arguments, name)) is not None}
    values = {name: read_times(path) if name in TIMES else path for name, path in given.items()}
    return [Item(Path(arguments.dubbed), face=parse_face(arguments.face), **values)]  # type: ignore[arg-type]
