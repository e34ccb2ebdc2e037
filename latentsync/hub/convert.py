"""A published `.pt` file <-> a folder of ours, tensor by tensor: the way there and back changes no bit."""

from __future__ import annotations

import inspect
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latentsync.audio.encoders import OPENAI_NAMES
from latentsync.hub.audio_encoders import describe, encoder_part
from latentsync.hub.components import diffusers_part, plain_card
from latentsync.hub.folder import (
    CONFIG,
    DIFFUSERS_WEIGHTS,
    WEIGHTS,
    Folder,
    Part,
    is_folder,
    open_folder,
    write_folder,
)
from latentsync.hub.networks import FileName, read_whisper, syncnet_for, unet_for
from latentsync.hub.settings import Settings
from latentsync.hub.syncnet import PART as SYNCNET_PART
from latentsync.hub.syncnet import is_syncnet, syncnet_part
from latentsync.hub.tensors import read_json, read_pt, read_safetensors, state_of
from latentsync.models.unet import (
    LatentSyncUNet,
    config_from_state_dict,
    diffusers_to_published,
    published_to_diffusers,
)
from latentsync.types import CheckpointError, InputError

REST = "rest.safetensors"  # what an OpenAI file holds besides the levels that are used: its decoder, its final norm

State = dict[str, torch.Tensor]
Written = tuple[dict[str, Any], dict[str, Part]]  # top entries, parts


def convert(source: FileName, destination: FileName) -> Path:
    """Turn a published file (UNet, StableSyncNet, SyncNet v2, Whisper) into a folder of ours, or such a folder back.

    Tensors keep their precision. Returns the destination, which appears whole or not at all.
    CheckpointError when the source is neither, or says more than a published file can hold.
    """
    source, destination = Path(source), Path(destination)
    if source.is_dir():
        if not is_folder(source):
            raise CheckpointError(f"{source} is no checkpoint folder of ours: there is nothing to convert")
        return write_pt(published_content(open_folder(source)), destination)
    entries, parts = _parts(read_pt(source), source)
    return write_folder(destination, entries, parts, plain_card(destination.name, parts, None))


def _parts(content: dict[str, Any], path: Path) -> Written:
    if "model_state_dict" in content:
        return _whisper_parts(content, path)
    if is_syncnet(content):
        return {}, {SYNCNET_PART: syncnet_part(content, path)}
    state = state_of(content, "state_dict", path)
    entries = {key: value for key, value in content.items() if key == "global_step"}
    if any(name.startswith("visual_encoder.") for name in state):
        return entries, {"stable_syncnet": Part(syncnet_for(state, path).config, {WEIGHTS: state})}
    described = diffusers_part(unet_for(state, path)).config
    return entries | Settings().as_json() | {"resolution": None}, {
        "unet": Part(described, {DIFFUSERS_WEIGHTS: published_to_diffusers(state)}),
    }


def published_content(folder: Folder) -> dict[str, Any]:
    """What a published `.pt` of a folder of ours holds. CheckpointError when it says more than such a file can hold."""
    step = {key: folder.config[key] for key in ("global_step",) if key in folder.config}
    if folder.has("unet"):
        if folder.settings.scheduler != Settings().scheduler:
            raise CheckpointError(f"{folder.root}: a published file cannot say that its scheduler differs: keep it")
        return step | {"state_dict": _unet_state(folder.part("unet"))}
    if folder.has("stable_syncnet"):
        return step | {"state_dict": _syncnet_state(folder.part("stable_syncnet"))}
    if folder.has(SYNCNET_PART):
        return dict(read_safetensors(folder.part(SYNCNET_PART) / WEIGHTS))
    return _whisper_content(folder.part("audio_encoder"))


def _unet_state(path: Path) -> State:
    state = diffusers_to_published(read_safetensors(path / DIFFUSERS_WEIGHTS))
    arguments = inspect.signature(LatentSyncUNet.__init__).parameters.values()
    published = {argument.name: argument.default for argument in arguments} | config_from_state_dict(state)
    for key, value in read_json(path / CONFIG).items():
        if not key.startswith("_") and (tuple(value) if isinstance(value, list) else value) != published.get(key):
            raise CheckpointError(f"{path}: a published file cannot say that {key} is {value}: keep the folder")
    return state


def _syncnet_state(path: Path) -> State:
    state = read_safetensors(path / WEIGHTS)
    if json.loads(json.dumps(syncnet_for(state, path).config)) != read_json(path / CONFIG):
        raise CheckpointError(
            f"{path}: a published file cannot say that its strides or its input differ: keep the folder"
        )
    return state


def _whisper_parts(content: dict[str, Any], path: Path) -> Written:
    encoder = read_whisper(path)
    part, state = encoder_part(encoder), state_of(content, "model_state_dict", path)
    names = _openai_names(part.weights[WEIGHTS])
    used = {ours: state[theirs] for ours, theirs in names.items()}
    rest = {name: tensor for name, tensor in state.items() if name not in names.values()}
    config = {**part.config, "dims": dict(content["dims"])}
    return {"audio_encoder": describe(encoder)}, {"audio_encoder": Part(config, {WEIGHTS: used, REST: rest})}


def _whisper_content(path: Path) -> dict[str, Any]:
    config = read_json(path / CONFIG)
    if "dims" not in config:
        raise CheckpointError(f"{path} did not come from an OpenAI Whisper file: there is no published form of it")
    used, rest = read_safetensors(path / WEIGHTS), read_safetensors(path / REST)
    names = _openai_names(used)
    return {
        "dims": config["dims"],
        "model_state_dict": {**{names[ours]: tensor for ours, tensor in used.items()}, **rest},
    }


def _openai_names(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    names = {}
    for ours in state:
        theirs = ours
        for openai, transformers in reversed(OPENAI_NAMES):
            theirs = theirs.replace(transformers, openai)
        names[ours] = f"encoder.{theirs}"
    return names


def write_pt(content: dict[str, Any], path: Path) -> Path:
    """Write a `.pt` file, whole or not at all; the same content gives the same bytes. InputError where a folder is."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a .pt file")
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as file:  # given a path, torch would write the name into the file
            torch.save(content, file)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
