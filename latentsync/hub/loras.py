"""LoRAs: low-rank changes to a checkpoint's UNet (Hu et al. 2021, arXiv 2106.09685), each a small folder with a name.

A folder holds peft's `adapter_config.json` and `adapter_model.safetensors`, and `lora.json`, which says what it was
trained on and which UNet it belongs to. Where one is used, it is added to the weights: dubbing takes no longer for it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from latentsync.hub.components import Components
from latentsync.hub.folder import READABLE, private_folder, take_place, write_json
from latentsync.hub.tensors import check_tensors, module_digest, read_json, read_safetensors, sha256_file
from latentsync.models.unet import LatentSyncUNet
from latentsync.types import CheckpointError, InputError

FORMAT, VERSION = "latentsync lora", 1
CARD, SHAPE, WEIGHTS = "lora.json", "adapter_config.json", "adapter_model.safetensors"
ADAPTER = "default"
MOST_WEIGHT = 4.0  # to either side; a weight beyond it is a slip of the pen


@dataclass(frozen=True)
class LoraCard:
    """What a LoRA says of itself."""

    name: str
    base: str  # checkpoint that it was trained on, as it was called there
    base_unet: str  # `unet_digest` of that checkpoint
    clips: int = 0  # that it was trained on
    seconds: float = 0.0  # of these
    data: str = ""  # hash of them
    steps: int = 0  # updates
    figures: Mapping[str, float] = field(default_factory=dict)  # on what was held out


@dataclass(frozen=True)
class WeightedLora:
    """A folder, and how strongly it counts: 1 as trained, 0 not at all."""

    path: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> WeightedLora:
        """`PATH` or `PATH:WEIGHT`. InputError for a weight that makes no sense."""
        path, colon, tail = text.rpartition(":")
        try:
            weight = float(tail) if colon else 1.0
        except ValueError:
            return cls(Path(text))
        if not abs(weight) <= MOST_WEIGHT:
            raise InputError(f"{text}: the weight of a LoRA lies between {-MOST_WEIGHT:g} and {MOST_WEIGHT:g}")
        return cls(Path(path if colon else text), weight)


def unet_digest(unet: LatentSyncUNet) -> str:
    """Of the weights alone, so that a checkpoint may be packed anew, or get another card, and keep its LoRAs."""
    return module_digest(unet).hex()


def add_adapter(unet: LatentSyncUNet, rank: int, alpha: float, layers: Sequence[str], seed: int = 0) -> None:
    """Put low-rank matrices beside the layers with these names; they begin as nothing, drawn from `seed`.

    InputError when peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise InputError('a LoRA needs peft: pip install "latentsync[train]"') from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers)), ADAPTER)  # type: ignore[arg-type]


def save_lora(unet: LatentSyncUNet, folder: Path, card: LoraCard) -> Path:
    """Write the matrices that `add_adapter` put in; the folder appears whole or not at all, an older LoRA is replaced.

    InputError when anything else is there.
    """
    from peft import get_peft_model_state_dict

    if folder.exists() and not (folder / CARD).is_file():
        raise InputError(f"{folder} exists and is no LoRA: give another name")
    with private_folder(folder) as partial:
        tensors: dict[str, torch.Tensor] = get_peft_model_state_dict(unet, adapter_name=ADAPTER)
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial / WEIGHTS)
        (partial / WEIGHTS).chmod(READABLE)
        unet.peft_config[ADAPTER].save_pretrained(str(partial))
        write_json(partial / CARD, {"format": FORMAT, "version": VERSION, **asdict(card)})
        take_place(partial, folder.absolute())
    return folder


def read_card(folder: Path) -> LoraCard:
    """What a LoRA says of itself. CheckpointError when the folder is none, or is damaged."""
    if not (folder / CARD).is_file():
        raise CheckpointError(f"{folder} is no LoRA of ours (it has no {CARD}): give a folder that fine-tuning wrote")
    content = read_json(folder / CARD)
    if (content.pop("format", None), content.pop("version", None)) != (FORMAT, VERSION):
        raise CheckpointError(f"{folder / CARD} is not of the format {FORMAT!r} {VERSION}: update latentsync")
    known = {entry.name for entry in fields(LoraCard)}
    if strange := sorted(known.symmetric_difference(content)):
        raise CheckpointError(f"{folder / CARD}: {strange[0]!r} is missing or unknown; copy the LoRA again")
    return LoraCard(**content)


def find_loras(folder: Path) -> list[tuple[Path, LoraCard]]:
    """Every LoRA in a folder, however deep, by path. InputError when the folder does not exist or holds none."""
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder: give one that holds LoRAs")
    found = sorted(path.parent for path in folder.rglob(CARD) if ".partial" not in path.parent.suffix)
    if not found:
        raise InputError(f"there is no LoRA in '{folder}': fine-tune one with `latentsync finetune`")
    return [(path, read_card(path)) for path in found]


def with_loras(components: Components, loras: Sequence[str]) -> Components:
    """The same networks with LoRAs added to the UNet, which is changed; each `PATH` or `PATH:WEIGHT`.

    Warns where one was trained on another UNet of the same shape. CheckpointError where it does not fit, or is none.
    """
    if not loras:
        return components
    wanted = [WeightedLora.parse(text) for text in loras]
    base, used = unet_digest(components.unet), [components.digest]
    for lora in wanted:
        card = read_card(lora.path)
        _add(components.unet, lora, card)
        if card.base_unet != base:
            told = f"the LoRA {lora.path} was trained on another checkpoint ({card.base})"
            warnings.warn(f"{told} and may not do here what it should", UserWarning, stacklevel=2)
        used.append(f"{sha256_file(lora.path / WEIGHTS)} {lora.weight!r}")
    return replace(components, digest=hashlib.sha256("\n".join(used).encode()).hexdigest())


def _add(unet: LatentSyncUNet, lora: WeightedLora, card: LoraCard) -> None:
    """Add one LoRA to the weights."""
    rank, alpha, layers = _shape(lora.path)
    try:
        add_adapter(unet, rank, alpha, layers)
    except ValueError as error:  # none of these layers is there
        raise CheckpointError(f"the LoRA {lora.path} does not fit this checkpoint: it is one of {card.base}") from error
    try:
        _fill(unet, lora.path)
        unet.fuse_lora(lora_scale=lora.weight)
    finally:
        unet.unload_lora()


def _fill(unet: LatentSyncUNet, folder: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    tensors = read_safetensors(folder / WEIGHTS)
    check_tensors(get_peft_model_state_dict(unet, adapter_name=ADAPTER), tensors, folder / WEIGHTS)
    set_peft_model_state_dict(unet, tensors, adapter_name=ADAPTER)


def _shape(folder: Path) -> tuple[int, float, list[str]]:
    """rank, alpha and names of the layers. Nothing else of peft's file is believed: some of its entries name code."""
    config: dict[str, Any] = read_json(folder / SHAPE)
    rank, alpha, layers = (config.get(key) for key in ("r", "lora_alpha", "target_modules"))
    named = isinstance(layers, list) and all(isinstance(layer, str) for layer in layers)
    if (
        config.get("peft_type") != "LORA"
        or not isinstance(rank, int)
        or not isinstance(alpha, (int, float))
        or not named
    ):
        raise CheckpointError(f"{folder / SHAPE} describes no LoRA of ours: copy the LoRA again")
    return rank, float(alpha), list(layers or ())
