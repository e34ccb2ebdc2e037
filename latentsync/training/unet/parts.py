"""Which parameters of the UNet are trained: all, named parts, or small matrices beside its attention (LoRA)."""

from __future__ import annotations

import copy

import torch

from latentsync.hub.loras import add_adapter
from latentsync.models.unet import LatentSyncUNet
from latentsync.types import InputError

ALL = "all"
TEMPORAL = ".motion_modules."  # stands in the names of the temporal modules' parameters
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]  # linear layers of every attention, spatial and temporal


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


def add_lora(unet: LatentSyncUNet, rank: int, alpha: float, seed: int = 0) -> None:
    """Freeze the UNet and put low-rank matrices beside its attention (Hu et al. 2021, arXiv 2106.09685).

    They begin as nothing, drawn from `seed`. InputError when peft is not installed.
    """
    unet.requires_grad_(False)
    add_adapter(unet, rank, alpha, ATTENTION, seed)


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
