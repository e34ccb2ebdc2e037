"""Files of weights, read without running anything, and networks that take exactly what they need."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from latentsync.config import unknown_key
from latentsync.types import CheckpointError

HASHED_AT_ONCE = 1 << 22  # bytes
NAMED_FAULTS = 5  # tensors of each kind of fault that a message names

Module = TypeVar("Module", bound=torch.nn.Module)


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes; a file that has not changed since is not read again."""
    state = path.stat()
    return _sha256(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def module_digest(module: torch.nn.Module) -> bytes:
    """Of the names and values of all its tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def read_json(path: Path) -> dict[str, Any]:
    """A json file that holds one object. CheckpointError when it is missing or anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: copy the checkpoint again, all of its files") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable as json ({error}): copy the checkpoint again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no json object: it is not the description of a network")
    return content


def read_pt(path: Path) -> dict[str, Any]:
    """What a `.pt` file holds, tensors on the CPU; nothing in it is ever run.

    CheckpointError when it is missing, damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: check the path of the checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged files fail in many ways
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors, and was not loaded ({reason}): "
            "take it from its original source"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint with named entries")
    return content


def state_of(content: Mapping[str, Any], entry: str, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.pt` file's `entry`; further entries are ignored. CheckpointError when there are none."""
    state = content.get(entry)
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        found = ", ".join(sorted(map(str, content))[:NAMED_FAULTS]) or "nothing"
        raise CheckpointError(f"{path} has no tensors in its entry {entry!r} (it has {found}): give a published file")
    return dict(state)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file. CheckpointError when it is missing or damaged."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: copy the checkpoint again, all of its files")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy the checkpoint again") from error


def build(kind: type[Module], config: Mapping[str, Any], where: Path) -> Module:
    """A network without memory for its weights, which `load_strict` brings.

    CheckpointError when `config` has an entry that the network does not know, or a value that it refuses.
    """
    known = inspect.signature(kind.__init__).parameters
    for key in config:
        if key not in known:
            raise CheckpointError(str(unknown_key(key, set(known) - {"self"}, str(where))))
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    try:
        with torch.device("meta"):
            return kind(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{where}: this is no configuration of a {kind.__name__} ({error})") from error


def check_tensors(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: Path) -> None:
    """CheckpointError that names the tensors which are missing, surplus or misshapen."""
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "surplus": sorted(found.keys() - wanted.keys()),
        "misshapen": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in found and found[name].shape != tensor.shape
        ],
    }
    told = [_named(kind, names) for kind, names in faults.items() if names]
    if told:
        raise CheckpointError(f"{where} does not hold the network it describes: {'; '.join(told)}")


def _named(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - NAMED_FAULTS} more" if len(names) > NAMED_FAULTS else ""
    return f"{kind}: {', '.join(names[:NAMED_FAULTS])}{more}"


def load_strict(module: Module, tensors: Mapping[str, torch.Tensor], where: Path) -> Module:
    """Give a network its weights, as float32, and set it to `eval`. CheckpointError as `check_tensors`."""
    check_tensors(module.state_dict(), tensors, where)
    wide = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    module.load_state_dict(wide, strict=True, assign=True)
    return module.eval()
