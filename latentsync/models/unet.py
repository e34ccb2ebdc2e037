"""The denoising UNet: diffusers' `UNetMotionModel` with the two normalisations of the published network.

LatentSync (arXiv 2412.09262) takes GroupNorm over all frames of a window inside the residual blocks and per frame at
the entry of the temporal modules; diffusers does it the other way round. All else is diffusers' own, key names
included; published checkpoints name their temporal modules differently, and `published_to_diffusers` translates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
import torch.utils.checkpoint
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D, UNetMotionModel, UNetMotionOutput
from einops import rearrange

from latentsync.types import CheckpointError

TEMPORAL_CHOICES = ("all", "decoder", "none")  # which blocks carry temporal modules: stage 2, "efficient", stage 1


class WindowGroupNorm(nn.GroupNorm):
    """GroupNorm whose statistics run over all frames of a window; `num_frames` is set by the UNet before each call."""

    num_frames = 1

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """hidden_states: (b*f, c, h, w) -> same shape. In channels_last both rearrangements are views."""
        clips = rearrange(hidden_states, "(b f) c h w -> b c (f h) w", f=self.num_frames)
        return rearrange(super().forward(clips), "b c (f h) w -> (b f) c h w", f=self.num_frames)


class TemporalTransformer(AnimateDiffTransformer3D):
    """Self-attention along time at every pixel; GroupNorm per frame at its entry.

    A new one adds nothing (`proj_out` is zero), so training may begin from a network without temporal modules.
    """

    def __init__(self, channels: int, num_attention_heads: int, max_frames: int, norm_num_groups: int):
        super().__init__(
            num_attention_heads=num_attention_heads,
            attention_head_dim=channels // num_attention_heads,
            in_channels=channels,
            norm_num_groups=norm_num_groups,
            positional_embeddings="sinusoidal",
            num_positional_embeddings=max_frames,
        )
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Any = None  # set by `enable_gradient_checkpointing`

    def forward(self, hidden_states: torch.Tensor, num_frames: int = 1) -> torch.Tensor:
        """hidden_states: (b*f, c, h, w) -> same shape."""
        height, width = hidden_states.shape[-2:]
        tokens = rearrange(self.norm(hidden_states), "(b f) c h w -> (b h w) f c", f=num_frames)
        tokens = self.proj_in(tokens)
        for block in self.transformer_blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(block, tokens)
            else:
                tokens = block(tokens)
        change = rearrange(self.proj_out(tokens), "(b h w) f c -> b f c h w", h=height, w=width)
        return (hidden_states.unflatten(0, (-1, num_frames)) + change).flatten(0, 1)


class NoTemporal(nn.Module):
    """Stands where a block has no temporal module."""

    def forward(self, hidden_states: torch.Tensor, num_frames: int = 1) -> torch.Tensor:
        """hidden_states: (b*f, c, h, w), returned as it is."""
        return hidden_states


def _checkpoint_window(module: nn.Module, *args):
    """Gradient checkpointing that recomputes with the window length of its own forward pass, whatever ran since."""
    norms = [m for m in module.modules() if isinstance(m, WindowGroupNorm)]
    lengths = [norm.num_frames for norm in norms]

    def run(*inputs):
        for norm, length in zip(norms, lengths, strict=True):
            norm.num_frames = length
        return module(*inputs)

    return torch.utils.checkpoint.checkpoint(run, *args, use_reentrant=False)


class _Config(FrozenDict):
    """Our arguments only; the parent's `forward` asks for two more, as attributes."""

    addition_embed_type = None
    encoder_hid_dim_type = None


class LatentSyncUNet(UNetMotionModel):
    """Predicts the noise (or velocity) of a window of latents from the audio of each of its frames.

    Args:
        in_channels: noisy latents, mask, masked latents, reference latents: 4 + 1 + 4 + 4.
        block_out_channels: widths from the finest level to the coarsest; any number of levels.
        down_block_types: "CrossAttnDownBlockMotion" or "DownBlockMotion" (no attention) for each level; the way up
            mirrors it. Default: attention everywhere but at the coarsest level.
        cross_attention_dim: width of an audio token.
        num_attention_heads, motion_num_attention_heads: heads of the spatial and of the temporal attention.
        motion_max_seq_length: most frames in a window.
        motion_norm_num_groups: GroupNorm groups at the entry of the temporal modules (not `norm_num_groups`).
        temporal: "all", "decoder" (the way up only) or "none".
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 13,
        out_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        down_block_types: tuple[str, ...] | None = None,
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        cross_attention_dim: int = 384,
        num_attention_heads: int = 8,
        motion_num_attention_heads: int = 8,
        motion_max_seq_length: int = 24,
        motion_norm_num_groups: int = 32,
        temporal: str = "all",
    ):
        if temporal not in TEMPORAL_CHOICES:
            raise ValueError(f"temporal is {temporal!r}; it must be one of {', '.join(TEMPORAL_CHOICES)}")
        if down_block_types is None:
            down_block_types = ("CrossAttnDownBlockMotion",) * (len(block_out_channels) - 1) + ("DownBlockMotion",)
        config = {**self._internal_dict, "down_block_types": tuple(down_block_types)}
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=tuple(block_out_channels),
            down_block_types=tuple(down_block_types),
            up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down_block_types)),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=cross_attention_dim,
            num_attention_heads=num_attention_heads,
            motion_num_attention_heads=motion_num_attention_heads,
            motion_max_seq_length=motion_max_seq_length,
            use_motion_mid_block=False,
        )
        self._internal_dict = _Config(config)  # the parent registered its own arguments over ours
        self._share_norms_over_frames()
        self._place_temporal_modules()

    def _share_norms_over_frames(self) -> None:
        for module in list(self.modules()):
            if isinstance(module, ResnetBlock2D):
                module.norm1, module.norm2 = _over_frames(module.norm1), _over_frames(module.norm2)
        self.conv_norm_out = _over_frames(self.conv_norm_out)

    def _place_temporal_modules(self) -> None:
        config = self.config
        for blocks, wanted in ((self.down_blocks, ("all",)), (self.up_blocks, ("all", "decoder"))):
            for block in blocks:
                block.motion_modules = nn.ModuleList(
                    TemporalTransformer(
                        resnet.out_channels,
                        config["motion_num_attention_heads"],
                        config["motion_max_seq_length"],
                        config["motion_norm_num_groups"],
                    )
                    if config["temporal"] in wanted
                    else NoTemporal()
                    for resnet in block.resnets  # type: ignore[union-attr]
                )

    def enable_gradient_checkpointing(self, gradient_checkpointing_func=_checkpoint_window) -> None:
        """Recompute residual blocks, spatial and temporal attention in the backward pass instead of storing them."""
        super().enable_gradient_checkpointing(gradient_checkpointing_func)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        encoder_hidden_states: torch.Tensor,
        **kwargs,
    ) -> UNetMotionOutput | tuple[torch.Tensor]:
        """One denoising step.

        sample: (b, in_channels, f, h, w) as `diffusion.conditioning` lays it out; timestep: a number, () or (b,);
        encoder_hidden_states: (b*f, n, cross_attention_dim), the audio tokens of every frame.
        Returns `.sample` (b, out_channels, f, h, w); further arguments are `UNetMotionModel.forward`'s.
        """
        assert encoder_hidden_states.shape[0] == sample.shape[0] * sample.shape[2], "audio tokens of every frame"
        for module in self.modules():
            if isinstance(module, WindowGroupNorm):
                module.num_frames = sample.shape[2]
        return super().forward(sample, timestep, encoder_hidden_states, **kwargs)


def _over_frames(norm: nn.GroupNorm) -> WindowGroupNorm:
    return WindowGroupNorm(norm.num_groups, norm.num_channels, eps=norm.eps)


# Order matters: the positions stand below `attention_blocks` in the published names and beside the attention in ours.
_TO_DIFFUSERS = (
    (r"(motion_modules\.\d+\.)temporal_transformer\.", r"\1"),
    (r"attention_blocks\.[01]\.pos_encoder\.pe$", "pos_embed.pe"),
    (r"attention_blocks\.0\.", "attn1."),
    (r"attention_blocks\.1\.", "attn2."),
    (r"\.norms\.0\.", ".norm1."),
    (r"\.norms\.1\.", ".norm2."),
    (r"\.ff_norm\.", ".norm3."),
)
_TO_PUBLISHED = (
    (r"(motion_modules\.\d+\.)", r"\1temporal_transformer."),
    (r"\.attn1\.", ".attention_blocks.0."),
    (r"\.attn2\.", ".attention_blocks.1."),
    (r"\.norm1\.", ".norms.0."),
    (r"\.norm2\.", ".norms.1."),
    (r"\.norm3\.", ".ff_norm."),
)


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    if ".motion_modules." not in key:
        return key
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def published_to_diffusers(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a published `state_dict` under this class's names.

    Raises CheckpointError where the two published copies of a module's positions differ: ours has one.
    """
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state_dict.items():
        name = _rename(key, _TO_DIFFUSERS)
        if name in renamed and not torch.equal(renamed[name], tensor):
            raise CheckpointError(f"the tensor {key} differs from its twin {name}; the checkpoint is damaged")
        renamed[name] = tensor
    return renamed


def diffusers_to_published(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of `published_to_diffusers`: one position table becomes two."""
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state_dict.items():
        name = _rename(key, _TO_PUBLISHED)
        if name.endswith(".pos_embed.pe"):
            stem = name.removesuffix("pos_embed.pe")
            renamed.update({f"{stem}attention_blocks.{i}.pos_encoder.pe": tensor for i in (0, 1)})
        else:
            renamed[name] = tensor
    return renamed


def config_from_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict:
    """The config of a LatentSyncUNet read off the shapes of its tensors (names of either kind).

    Heads (8) and GroupNorm groups (32) cannot be read and stay at the published values.
    Raises CheckpointError when the tensors are not those of such a network.
    """
    tensors = published_to_diffusers(state_dict)
    try:
        return _read_config(tensors)
    except KeyError as error:
        raise CheckpointError(f"not a LatentSync UNet: the tensor {error.args[0]} is missing") from None


def _read_config(tensors: Mapping[str, torch.Tensor]) -> dict:
    levels = 1 + max((int(m[1]) for key in tensors if (m := re.match(r"down_blocks\.(\d+)\.", key))), default=0)
    layers = sum(re.fullmatch(r"down_blocks\.0\.resnets\.\d+\.conv1\.weight", key) is not None for key in tensors)
    motion = {side: [k for k in tensors if k.startswith(side) and ".motion_modules." in k] for side in ("down", "up")}
    config = {
        "in_channels": tensors["conv_in.weight"].shape[1],
        "out_channels": tensors["conv_out.weight"].shape[0],
        "block_out_channels": tuple(tensors[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(levels)),
        "down_block_types": tuple(
            "CrossAttnDownBlockMotion" if f"down_blocks.{i}.attentions.0.norm.weight" in tensors else "DownBlockMotion"
            for i in range(levels)
        ),
        "layers_per_block": layers,
        "cross_attention_dim": tensors["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "temporal": "all" if motion["down"] else "decoder" if motion["up"] else "none",
    }
    positions = [tensors[key] for key in motion["up"] if key.endswith(".pos_embed.pe")]
    if positions:
        config["motion_max_seq_length"] = positions[0].shape[1]
    return config
