"""Which parameters of the UNet are trained: all, named parts, or small matrices beside its attention (LoRA)."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from latentsync.models.unet import LatentSyncUNet
from latentsync.types import InputError

ALL = "all"
TEMPORAL = ".motion_modules."  # stands in the names of the temporal modules' parameters
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]  # linear layers of every attention, spatial and temporal
ADAPTER = "default"


def choose_parts(unet: LatentSyncUNet, parts: str) -> None:
    """Freeze everything but `parts`: "all", or names joined by "+" that stand in the parameters' names.

    The published stage 2 trains "motion_modules+attentions", its efficient form "motion_modules+attn2".
    InputError when a name stands in none.
    """
    if parts == ALL:
        unet.requires_grad_(True)
        return
    names = [f".{name}." for name in parts.split("+")]
    for name in names:
        if not any(name in f".{parameter}" for parameter, _ in unet.named_parameters()):
            raise InputError(
                f"trained={parts}: no parameter of the UNet has {name.strip('.')!r} in its name; give all, "
                "motion_modules+attentions (needs unet.temporal=all or decoder) or attentions"
            )
    for parameter, tensor in unet.named_parameters():
        tensor.requires_grad_(any(name in f".{parameter}" for name in names))


def add_lora(unet: LatentSyncUNet, rank: int, alpha: float) -> None:
    """Freeze the UNet and put low-rank matrices beside its attention (Hu et al. 2021, arXiv 2106.09685).

    They begin as nothing. InputError when peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise InputError('lora needs peft: pip install "latentsync[train]", or set lora.rank=0') from error
    unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=ATTENTION)  # type: ignore[arg-type]
    unet.add_adapter(config, ADAPTER)


def has_lora(unet: LatentSyncUNet) -> bool:
    """Whether `add_lora` was called."""
    return bool(getattr(unet, "peft_config", None))


def merged(unet: LatentSyncUNet) -> LatentSyncUNet:
    """A copy with the low-rank matrices added to the weights, or the network itself where there are none."""
    if not has_lora(unet):
        return unet
    whole = copy.deepcopy(unet)
    whole.fuse_lora()
    whole.unload_lora()
    return whole


def save_lora(unet: LatentSyncUNet, folder: Path) -> None:
    """Write the low-rank matrices alone, in peft's format."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = get_peft_model_state_dict(unet, adapter_name=ADAPTER)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    unet.peft_config[ADAPTER].save_pretrained(str(folder))


def load_known(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load all but temporal modules that one side has and the other has not; new ones add nothing at first."""
    missing, surplus = module.load_state_dict(tensors, strict=False)
    assert all(TEMPORAL in name for name in [*missing, *surplus]), (missing, surplus)


def load_temporal(unet: LatentSyncUNet, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Take the temporal modules alone from another network's tensors; name: of its checkpoint.

    InputError when it has not the modules that `unet` has, or in other shapes.
    """
    own = {key: tensor.shape for key, tensor in unet.state_dict().items() if TEMPORAL in key}
    found = {key: tensor for key, tensor in tensors.items() if key in own and tensor.shape == own[key]}
    if not own or len(found) < len(own):
        raise InputError(
            f"temporal_from={name}: {len(found)} of the {len(own)} temporal tensors of this UNet are in it; name a "
            "checkpoint with the same unet.temporal, or set temporal_from=null"
        )
    unet.load_state_dict(found, strict=False)
