"""A folder of ours: parts of `config.json` and safetensors, a model card, and one list of every file's SHA-256."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors.torch import save_file

from latentsync.hub.settings import FORMAT, FORMAT_VERSION, Settings, read_settings
from latentsync.hub.tensors import read_json, sha256_file
from latentsync.types import CheckpointError, InputError

CONFIG = "config.json"
CARD = "README.md"
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"  # of unet and vae
WEIGHTS = "model.safetensors"  # of every other part
BASIS = "basis.safetensors"  # beside the weights of a UniSync that looks at coefficients of a fitted basis
READABLE = 0o644  # safetensors writes files that only their owner can read


@dataclass(frozen=True)
class Folder:
    """A folder whose every listed file was found to be what `config.json` says."""

    root: Path
    config: Mapping[str, Any]
    settings: Settings

    def has(self, part: str) -> bool:
        """Whether it holds `unet`, `vae`, `audio_encoder`, `stable_syncnet`, `syncnet` or `unisync`."""
        return f"{part}/{CONFIG}" in self.config["files"]

    def part(self, name: str) -> Path:
        """The folder of one part. CheckpointError when it is not there, or holds a file that is not listed."""
        if not self.has(name):
            raise CheckpointError(f"{self.root} holds no {name}: give a checkpoint that has one")
        for file in (self.root / name).iterdir():
            if f"{name}/{file.name}" not in self.config["files"]:
                raise CheckpointError(f"{file} is not listed in {self.root / CONFIG}: remove it")
        return self.root / name


@dataclass(frozen=True)
class Part:
    """What is written below a folder: a description and files of tensors."""

    config: Mapping[str, Any]
    weights: Mapping[str, Mapping[str, torch.Tensor]]  # file name -> tensors

    def write(self, folder: Path, dtype: torch.dtype | None) -> None:
        """dtype: of the floating-point tensors on disk; None keeps each as it is."""
        folder.mkdir()
        write_json(folder / CONFIG, self.config)
        for name, tensors in self.weights.items():
            plain = {key: _plain(tensor, dtype, key) for key, tensor in tensors.items()}
            save_file(plain, folder / name, metadata={"format": "pt"})
            (folder / name).chmod(READABLE)


def _plain(tensor: torch.Tensor, dtype: torch.dtype | None, name: str) -> torch.Tensor:
    narrow = tensor.detach().cpu()
    if dtype is not None and narrow.is_floating_point():
        finite = narrow.isfinite().all()
        narrow = narrow.to(dtype)
        if finite and not narrow.isfinite().all():
            raise CheckpointError(f"the tensor {name} has values too large for {dtype}: save it in another precision")
    return narrow.contiguous().clone()  # a file cannot hold two tensors that share memory


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The same content gives the same bytes."""
    path.write_bytes(json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder in our format, of whatever version."""
    return (path / CONFIG).is_file() and read_json(path / CONFIG).get("format") == FORMAT


def open_folder(root: Path) -> Folder:
    """Read `config.json` and compare every file that it lists with its SHA-256.

    CheckpointError names the file that is missing or differs, or says that the folder is none of ours.
    """
    if not is_folder(root):
        raise CheckpointError(f"{root} has no config.json with format {FORMAT!r}: it is no checkpoint folder of ours")
    config = read_json(root / CONFIG)
    if config.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{root} has format version {config.get('format_version')!r}: update latentsync")
    for name, listed in _files(config, root).items():
        _check_file(root / name, listed)
    return Folder(root, config, read_settings(config, root / CONFIG))


def _files(config: Mapping[str, Any], root: Path) -> dict[str, str]:
    files = config.get("files")
    if not isinstance(files, dict):
        raise CheckpointError(f"{root / CONFIG} lists no files: copy the checkpoint again")
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise CheckpointError(f"{root / CONFIG} lists {name}, which lies outside of the folder")
    return files


def _check_file(path: Path, listed: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: copy the checkpoint again, all of its files")
    if sha256_file(path) != listed:
        raise CheckpointError(f"{path} is not the file that config.json lists (its SHA-256 differs): copy it again")


def write_folder(
    path: Path, entries: Mapping[str, Any], parts: Mapping[str, Part], card: str, dtype: torch.dtype | None = None
) -> Path:
    """Write a folder that appears whole or not at all; the same content gives the same bytes.

    entries: of the top `config.json` besides format and files. An older checkpoint folder at `path` is replaced;
    InputError when anything else is there.
    """
    path = path.absolute()
    if path.exists() and not is_folder(path) and not is_empty(path):
        raise InputError(f"{path} exists and is no checkpoint folder: give another name")
    with private_folder(path) as partial:
        _fill(partial, entries, parts, card, dtype)
        take_place(partial, path)
    return path


@contextmanager
def private_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that nobody else sees; what is left of it afterwards is removed."""
    path = path.absolute()
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(
    root: Path, entries: Mapping[str, Any], parts: Mapping[str, Part], card: str, dtype: torch.dtype | None
) -> None:
    for name, part in parts.items():
        part.write(root / name, dtype)
    (root / CARD).write_text(card, encoding="utf-8")
    files = {file.relative_to(root).as_posix(): sha256_file(file) for file in root.rglob("*") if file.is_file()}
    write_json(root / CONFIG, {**entries, "format": FORMAT, "format_version": FORMAT_VERSION, "files": files})


def take_place(partial: Path, path: Path) -> None:
    """Give a finished private folder its name; what was there before goes, unless that fails."""
    older = partial.with_suffix(".older")
    if path.exists():
        path.rename(older)
    try:
        partial.rename(path)
    except OSError:
        if older.exists():
            older.rename(path)
        raise
    shutil.rmtree(older, ignore_errors=True)


def is_empty(path: Path) -> bool:
    """Whether it is a folder without anything in it."""
    return path.is_dir() and not any(path.iterdir())
