"""SyncNet v2 by a path: its published file, a plain state dict, or the same tensors as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latentsync.hub.folder import WEIGHTS, Part, is_folder, open_folder
from latentsync.hub.tensors import build, check_tensors, load_strict, read_pt, read_safetensors
from latentsync.models.syncnet import SyncNet
from latentsync.types import CheckpointError

PART = "syncnet"
COUNTER = "num_batches_tracked"  # of a norm while it is trained; files older than torch 0.4.1 have none


def load_syncnet(name: str | Path) -> SyncNet:
    """SyncNet v2 in float32 on the CPU, set to `eval`.

    name: the published `syncnet_v2.model`, a folder that `latentsync convert` made of it, or a `.safetensors` file.
    CheckpointError names the tensors that are missing, surplus or misshapen.
    """
    path = Path(name)
    if is_folder(path):
        path = open_folder(path).part(PART) / WEIGHTS
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_pt(path)
    network = build(SyncNet, {}, path)
    return load_strict(network, _counters(network) | _tensors(content, path), path)


def is_syncnet(content: Mapping[str, Any]) -> bool:
    """Whether a `.pt` file's content looks like the published plain state dict."""
    return "netcnnlip.0.weight" in content


def syncnet_part(content: Mapping[str, Any], path: Path) -> Part:
    """What is written of a published file's content below a folder. CheckpointError as `load_syncnet`."""
    wanted = build(SyncNet, {}, path).state_dict()
    tensors = _tensors(content, path)
    check_tensors({name: wanted[name] for name in wanted if name in tensors or COUNTER not in name}, tensors, path)
    return Part({"type": "syncnet_v2"}, {WEIGHTS: tensors})


def _tensors(content: Mapping[str, Any], path: Path) -> dict[str, torch.Tensor]:
    strange = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise CheckpointError(f"{path} is no SyncNet v2 (its entry {strange[0]!r} is no tensor): give syncnet_v2.model")
    return dict(content)


def _counters(network: SyncNet) -> dict[str, torch.Tensor]:
    """A count of 0 for every norm: what is computed does not hang on it."""
    return {name: torch.tensor(0) for name in network.state_dict() if COUNTER in name}
