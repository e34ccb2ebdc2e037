"""`latentsync share`: the weights of a run with their card, in a folder or on the hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from latentsync.types import InputError

if TYPE_CHECKING:
    from latentsync.hub.remote import HubName
    from latentsync.hub.share import Package

SUMMARY = "Share the weights of a training: with a model card, pictures and checksums, in a folder or on the hub."
EXAMPLES = """examples:
  latentsync share runs/unet_stage2 --to my-dub --dry-run
  latentsync share runs/unet_stage2 --to my-dub --weights-licence apache-2.0 --source-licences licences.tsv
  latentsync share my-dub --to someone/my-dub --revision stage2
NAME is taken for a repository of the hub where it reads owner/name and there is no folder owner here; it is made
private, and --public is needed for a public one. ./owner/name is always a folder.
A table of licences has the columns source and licence (and origin): patterns of file or folder names and what they are
under. licences.tsv or .csv beside the manifest is read by itself.
"""
ONLY_HUB = ("public", "revision", "message")
MB = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, where to, and what goes along."""
    parser.add_argument("source", metavar="RUN", help="run folder of a training, or a checkpoint folder")
    parser.add_argument("--to", required=True, metavar="NAME|FOLDER", help="a new folder, or a hub name owner/name")
    parser.add_argument("--published", action="store_true", help="also the .pt layout that other tools load")
    parser.add_argument("--weights-licence", metavar="ID", help="of the weights, as the hub calls it, e.g. apache-2.0")
    parser.add_argument("--source-licences", metavar="TABLE", help="of the clips: .tsv or .csv, see below")
    parser.add_argument("--no-examples", action="store_true", help="no pictures of the people it was validated on")
    parser.add_argument("--dry-run", action="store_true", help="list files and sizes; write and upload nothing")
    hub = parser.add_argument_group("on the hub")
    hub.add_argument("--push", action="store_true", help="NAME is a repository, whatever folders there are here")
    hub.add_argument("--public", action="store_true", help="everyone may have it; without this it is private")
    hub.add_argument("--revision", metavar="BRANCH", help="another branch than the main one; made where needed")
    hub.add_argument("--message", metavar="TEXT", help="of the commit")


def run(arguments: argparse.Namespace) -> int:
    """Share, or list what would be shared."""
    hub, place = _hub_name(arguments), Path(arguments.to)
    package = _pack(arguments, str(hub) if hub else None)
    sizes = package.sizes()
    for name, size in sizes.items():
        print(f"{size / MB:10.3f} MB  {name}")
    total = f"{len(sizes)} files, {sum(sizes.values()) / MB:.1f} MB"
    if arguments.dry_run:
        print(f"{total}, and the list of their SHA-256, would go to {_where(arguments, hub)}; nothing was written")
    elif hub:
        print(f"{total}: {_push(package, hub, arguments)}")
    else:
        print(f"{total}: {arguments.to}{_write(package, place)}")
    return 0


def _hub_name(arguments: argparse.Namespace) -> HubName | None:
    """The repository that is meant; None: a folder is. InputError where the flags say both."""
    from latentsync.hub.remote import parse_name

    name = parse_name(arguments.to, arguments.revision)
    wanted = arguments.push or (name is not None and not Path(arguments.to).parent.exists())
    if wanted and (name is None or arguments.to.startswith(".")):
        raise InputError(f"--to is {arguments.to!r}, which is no name of a hub repository: give owner/name")
    if wanted:
        return name
    given = [f"--{flag}" for flag in ONLY_HUB if getattr(arguments, flag)]
    if given:
        raise InputError(f"{given[0]} is for the hub and {arguments.to} is a folder: give --push for the hub")
    return None


def _pack(arguments: argparse.Namespace, repository: str | None) -> Package:
    """repository: of the hub; None: the folder `--to` is meant."""
    from latentsync.hub.share import Wishes, check_place, pack
    from latentsync.training.loop.history import find_run, read_facts

    found, place = find_run(Path(arguments.source)), Path(arguments.to)
    if repository is None:
        _check_apart(place, found.weights, found.folder)
        check_place(place)
    table = Path(arguments.source_licences) if arguments.source_licences else None
    if found.folder is None and table:
        raise InputError(f"{arguments.source} does not say what it was trained on: --source-licences is for runs")
    facts = read_facts(found.folder, table, not arguments.no_examples) if found.folder else None
    wishes = Wishes(arguments.weights_licence, arguments.published, not arguments.no_examples)
    return pack(found.weights, repository or place.resolve().name, facts, wishes)


def _check_apart(place: Path, weights: Path, run: Path | None) -> None:
    """InputError when the new folder is one that the weights are read from, or holds it."""
    target = place.resolve()
    for folder in filter(None, (weights, run)):
        if folder.resolve().is_relative_to(target) or (folder == weights and target.is_relative_to(folder.resolve())):
            raise InputError(f"--to {place} would replace {folder}, which is being shared: give another folder")


def _where(arguments: argparse.Namespace, hub: HubName | None) -> str:
    if hub is None:
        return arguments.to
    return f"the hub as {hub}, {'for everyone' if arguments.public else 'private'}"


def _push(package: Package, name: HubName, arguments: argparse.Namespace) -> str:
    from latentsync.hub.upload import Target, push

    target = Target(name, public=arguments.public)
    if arguments.message:
        target = Target(name, arguments.public, arguments.message)
    return push(package, target)


def _write(package: Package, place: Path) -> str:
    from latentsync.hub.share import write_shared

    return "" if write_shared(package, place) else " (as it was already)"
