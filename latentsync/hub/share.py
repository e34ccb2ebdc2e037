"""A folder to give away: weights as they are, a model card, pictures, and the SHA-256 of every file."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import safe_open

from latentsync.hub.card import SUMS, CardFacts, PartFacts, RunFacts, check_no_paths, make_card, renamed
from latentsync.hub.convert import published_content, write_pt
from latentsync.hub.folder import (
    CARD,
    CONFIG,
    READABLE,
    Folder,
    is_empty,
    is_folder,
    json_bytes,
    open_folder,
    private_folder,
    take_place,
)
from latentsync.hub.networks import SYNCNET_FILE, UNET_FILE
from latentsync.hub.tensors import read_json, sha256_file
from latentsync.types import CheckpointError, InputError

PUBLISHED_FILES = {"unet": UNET_FILE, "stable_syncnet": SYNCNET_FILE}  # part -> file, as published
WEIGHT_SUFFIXES = (".safetensors", ".json")  # of all that a checkpoint's parts hold
EXTRA_SUFFIXES = (".png", ".pt")  # of what an earlier `share` put beside them
CURVES, EXAMPLES = "losses.png", "examples"  # a picture, and a folder of pictures
HEADER = "---\n"  # a card that begins so has the hub's metadata: somebody wrote it


@dataclass(frozen=True)
class Wishes:
    """What is asked for beyond the weights and their card."""

    licence: str | None = None  # of the weights, an identifier of the hub, e.g. apache-2.0
    published: bool = False  # the published `.pt` layout too
    examples: bool = True


@dataclass(frozen=True)
class Package:
    """Every file of the folder to be: one that is copied, or its content; and tensors for a `.pt` file."""

    files: Mapping[str, Path | bytes]
    published: tuple[str, dict[str, Any]] | None = None

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, in order of name; of a `.pt` file those of its tensors."""
        found = {
            name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in self.files.items()
        }
        if self.published is not None:
            name, content = self.published
            found[name] = sum(tensor.nbytes for tensor in content["state_dict"].values())
        return dict(sorted(found.items()))

    def write(self, root: Path) -> None:
        """Fill an empty folder, and list what is in it."""
        for name, file in self.files.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(file, bytes):
                target.write_bytes(file)
            else:
                shutil.copyfile(file, target)
            target.chmod(READABLE)
        if self.published is not None:
            write_pt(self.published[1], root / self.published[0]).chmod(READABLE)
        (root / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in _digests(root)), encoding="utf-8")
        open_folder(root)  # a copy that went wrong is told here, not where it is loaded


def pack(checkpoint: Path, name: str, run: RunFacts | None, wishes: Wishes) -> Package:
    """Put together what is shared of a checkpoint folder; nothing is written yet.

    name: as it will be loaded; run: what its run tells, None where there is none: then a card that somebody wrote is
    kept, and so is what an earlier `share` put beside it.
    CheckpointError: a file is missing or not as listed. InputError: the folder holds what is not for others.
    """
    folder = open_folder(checkpoint)
    files: dict[str, Path | bytes] = dict(_weights(folder))
    carried = {} if run else _carried(checkpoint, files)
    if not wishes.examples and any(name.startswith(f"{EXAMPLES}/") for name in carried):
        raise InputError(f"the card of {checkpoint} shows its examples: share the run itself without them")
    files |= carried | (dict(run.pictures) if run else {})
    published = _published(folder, run) if wishes.published else None
    card = _card(folder, name, run, wishes, published[0] if published else None)
    files[CARD] = card.encode()
    entries = {**folder.config, "files": {**folder.config["files"], CARD: hashlib.sha256(card.encode()).hexdigest()}}
    if run and run.updates is not None:
        entries["global_step"] = run.updates
    files[CONFIG] = json_bytes(entries)
    if published:
        files.pop(published[0], None)
    return Package(dict(sorted(files.items())), published)


def _weights(folder: Folder) -> Iterator[tuple[str, Path]]:
    """The files of the parts. InputError for what is no part of a checkpoint, though its `config.json` lists it."""
    for name in folder.config["files"]:
        if name == CARD:
            continue
        path = folder.root / name
        if path.suffix not in WEIGHT_SUFFIXES:
            raise InputError(f"{path} is neither safetensors nor json, and is not shared: remove it")
        check_no_paths(_words(path), str(path))
        yield name, path


def _words(path: Path) -> str:
    """What a description or a file of tensors says besides its tensors."""
    if path.suffix == ".json":
        return path.read_text(encoding="utf-8")
    with safe_open(path, framework="pt") as tensors:
        return "\n".join((tensors.metadata() or {}).values())


def _carried(checkpoint: Path, files: Mapping[str, Any]) -> dict[str, Path]:
    """What a folder that was shared before has beside its weights, as it was listed."""
    if not (checkpoint / SUMS).is_file():
        return {}
    faults = sums_faults(checkpoint)
    if faults:
        raise CheckpointError(f"{faults[0]}: copy the folder again, or share the run anew")
    names = [name for name in read_sums(checkpoint) if name not in (*files, CARD, CONFIG)]
    return {name: checkpoint / name for name in names if PurePosixPath(name).suffix in EXTRA_SUFFIXES}


def _published(folder: Folder, run: RunFacts | None) -> tuple[str, dict[str, Any]]:
    """Name and content of the file in the published layout. CheckpointError where that cannot say it."""
    for part, name in PUBLISHED_FILES.items():
        if folder.has(part):
            step = {"global_step": run.updates} if run and run.updates is not None else {}
            return name, published_content(replace(folder, config={**folder.config, **step}))
    raise CheckpointError(f"{folder.root} holds neither {' nor '.join(PUBLISHED_FILES)}: nothing to publish")


def _card(folder: Folder, name: str, run: RunFacts | None, wishes: Wishes, published: str | None) -> str:
    earlier = (folder.root / CARD).read_text(encoding="utf-8") if (folder.root / CARD).is_file() else ""
    if run is None and earlier.startswith(HEADER):
        check_no_paths(earlier, str(folder.root / CARD))
        ours = (folder.root / SUMS).is_file()
        return _with_licence(renamed(earlier, name) if ours else earlier, wishes.licence)
    return make_card(
        CardFacts(
            name=name,
            settings=folder.settings,
            trained_resolution=folder.config.get("resolution"),
            parts=[_part_facts(folder, part) for part in sorted(_parts(folder))],
            licence=wishes.licence,
            run=run,
            earlier=_without_heading(earlier),
            published=published,
        )
    )


def _with_licence(card: str, licence: str | None) -> str:
    from huggingface_hub import ModelCard

    if licence is None:
        return card
    told = ModelCard(card)
    told.data.license = licence  # type: ignore[union-attr]
    return str(told)


def _without_heading(card: str) -> str:
    first, _, rest = card.partition("\n")
    return (rest if first.startswith("# ") else card).strip()


def _parts(folder: Folder) -> set[str]:
    return {PurePosixPath(name).parts[0] for name in folder.config["files"] if "/" in name}


def _part_facts(folder: Folder, part: str) -> PartFacts:
    root = folder.part(part)
    config = read_json(root / CONFIG)
    count, precisions = 0, set()
    for file in sorted(root.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no dictionary)
                part_of = tensors.get_slice(name)
                count += torch.Size(part_of.get_shape()).numel()
                precisions.add(part_of.get_dtype())
    kind = str(config.get("_class_name") or config.get("type") or part)
    return PartFacts(part, kind, count, ", ".join(sorted(precisions)))


def write_shared(package: Package, path: Path) -> bool:
    """Give `path` what was packed; it appears whole or not at all. False when it was there already, to the last bit.

    InputError when something else is there.
    """
    check_place(path)
    with private_folder(path) as partial:
        package.write(partial)
        same = path.is_dir() and not is_empty(path) and read_sums(path) == read_sums(partial)
        if same and not sums_faults(path):
            return False
        take_place(partial, path.absolute())
    return True


def check_place(path: Path) -> None:
    """InputError when there is anything at `path` that `share` did not write."""
    if not path.exists() or is_empty(path):
        return
    if not path.is_dir() or not is_folder(path) or not (path / SUMS).is_file():
        raise InputError(f"{path} exists and was not made by sharing: give another name")
    known = {SUMS, *read_sums(path)}
    strange = sorted(name for name in _names(path) if name not in known)
    if strange:
        raise InputError(f"{path} holds {strange[0]}, which sharing did not put there: move it, or give another name")


def read_sums(root: Path) -> dict[str, str]:
    """File -> SHA-256, of a shared folder's list. CheckpointError when it is damaged."""
    found = {}
    for number, line in enumerate((root / SUMS).read_text(encoding="utf-8").splitlines(), 1):
        digest, gap, name = line.partition("  ")
        path = PurePosixPath(name)
        if not gap or not name or path.is_absolute() or ".." in path.parts:
            raise CheckpointError(f"{root / SUMS}, line {number}, is no SHA-256 with the name of a file: copy it again")
        found[name] = digest
    return found


def sums_faults(root: Path) -> list[str]:
    """Sentences about the files of a shared folder that are missing or not as its list says."""
    faults = []
    for name, digest in read_sums(root).items():
        if not (root / name).is_file():
            faults.append(f"{root / name} is missing")
        elif sha256_file(root / name) != digest:
            faults.append(f"{root / name} is not the file that {SUMS} lists (its SHA-256 differs)")
    return faults


def _digests(root: Path) -> list[tuple[str, str]]:
    return [(name, sha256_file(root / name)) for name in sorted(_names(root))]


def _names(root: Path) -> Iterator[str]:
    yield from (file.relative_to(root).as_posix() for file in root.rglob("*") if not file.is_dir())
