"""StableSyncNet (LatentSync, arXiv 2412.09262, section 3.4): does this mouth belong to this sound?

Two towers of residual blocks with self-attention at chosen levels. Names are the published ones, so the published file
loads as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from einops import rearrange

from latentsync.types import WINDOW_FRAMES, CheckpointError

NORM_GROUPS = 32
NORM_EPS = 1e-6
HEADS = 8  # at every width

Stride = int | Sequence[int]  # one number, or (height, width)

PUBLISHED_CONFIG: dict[str, dict[str, Any]] = {
    "audio_encoder": {
        "in_channels": 1,
        "block_out_channels": (32, 64, 128, 256, 512, 1024, 2048),
        "downsample_factors": ((2, 1), 2, 2, 1, 2, 2, (2, 3)),
        "attn_blocks": (0, 0, 0, 1, 1, 0, 0),
    },
    "visual_encoder": {
        "in_channels": 48,
        "block_out_channels": (64, 128, 256, 256, 512, 1024, 2048, 2048),
        "downsample_factors": ((1, 2), 2, 2, 2, 2, 2, 2, 2),
        "attn_blocks": (0, 0, 0, 0, 1, 1, 0, 0),
    },
}

CHANNELS = {"pixel": 3, "latent": 4}  # of one frame, by the space that the network looks at


@dataclass(frozen=True)
class VisualInput:
    """What the visual tower looks at; the defaults are the published network's."""

    space: str = "pixel"  # "pixel": RGB in [-1, 1]; "latent": scaled latents of an autoencoder
    frames: int = WINDOW_FRAMES
    size: int = 256  # pixels (or places of a latent) along one side of the whole crop; its lower half is looked at

    @property
    def pixels(self) -> bool:
        """Whether it looks at colours."""
        return self.space == "pixel"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames * channels, height, width) of what the tower takes."""
        return self.frames * CHANNELS[self.space], self.size // 2, self.size


def lower_half(shown: torch.Tensor, wanted: VisualInput) -> torch.Tensor:
    """shown: (b, f, c, h, w) whole crops -> lower halves (b, f*c, size / 2, size), all channels of frame 0 first.

    Pixels of another size are resized first, bicubic; antialiased, where the published training at 512 px is not, so
    that decoded frames look like the crops the network was trained on. Latents cannot be resized.
    """
    size = (wanted.size, wanted.size)
    if shown.shape[-2:] != size:
        assert wanted.space == "pixel", (shown.shape, size)
        flat = rearrange(shown, "b f c h w -> (b f) c h w")
        resized = F.interpolate(flat, size, mode="bicubic", antialias=True)
        shown = rearrange(resized, "(b f) c h w -> b f c h w", b=len(shown))
    return rearrange(shown[..., wanted.size // 2 :, :], "b f c h w -> b (f c) h w")


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(NORM_GROUPS, channels, eps=NORM_EPS)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, then a strided one padded at the bottom and right only."""

    def __init__(self, in_channels: int, out_channels: int, stride: Stride, dropout: float):
        super().__init__()
        self.norm1 = _group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        height, width = (stride, stride) if isinstance(stride, int) else stride
        self.downsample_conv = (
            None if height == width == 1 else nn.Conv2d(out_channels, out_channels, 3, stride=(height, width))
        )
        self.padding = (*_padding(width), *_padding(height))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (b, in_channels, h, w) -> (b, out_channels, h / stride, w / stride)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        x = hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        return x if self.downsample_conv is None else self.downsample_conv(F.pad(x, self.padding))


def _padding(stride: int) -> tuple[int, int]:
    return (1, 1) if stride == 1 else (0, 1)


class AttentionBlock(nn.Module):
    """One transformer block over all places of a feature map."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.norm1 = _group_norm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.conv_in = nn.Conv2d(channels, channels, 1)
        self.attn = Attention(channels, heads=HEADS, dim_head=channels // HEADS, dropout=dropout, bias=True)
        self.ff = FeedForward(channels, dropout=dropout, activation_fn="geglu")
        self.conv_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (b, c, h, w) -> same shape."""
        tokens = rearrange(self.conv_in(self.norm1(x)), "b c h w -> b (h w) c")
        tokens = self.attn(self.norm2(tokens)) + tokens
        tokens = self.ff(self.norm3(tokens)) + tokens
        return x + self.conv_out(rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[2]))


class Tower(nn.Module):
    """A picture-like input of one size -> one vector."""

    def __init__(
        self,
        in_channels: int,
        block_out_channels: Sequence[int],
        downsample_factors: Sequence[Stride],
        attn_blocks: Sequence[int],
        dropout: float = 0.0,
    ):
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, block_out_channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        width = block_out_channels[0]
        for channels, stride, attends in zip(block_out_channels, downsample_factors, attn_blocks, strict=True):
            self.down_blocks.append(ResidualBlock(width, channels, stride, dropout))
            if attends:
                self.down_blocks.append(AttentionBlock(channels, dropout))
            width = channels
        self.norm_out = _group_norm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (b, in_channels, h, w) -> (b, d) of length 1, no entry negative."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return F.normalize(F.relu(self.norm_out(x)).flatten(1), dim=1)


class StableSyncNet(nn.Module):
    """Both towers; the cosine of the two vectors says how well picture and sound agree (threshold 0.5)."""

    def __init__(self, config: Mapping[str, Any] = PUBLISHED_CONFIG):
        """config: `audio_encoder` and `visual_encoder`, each the arguments of a `Tower`; `input`, those of a
        `VisualInput`, where it is not the published one.
        """
        super().__init__()
        self.input = VisualInput(**config.get("input", {}))
        self.config = {name: dict(config[name]) for name in PUBLISHED_CONFIG}
        if self.input != VisualInput():
            self.config["input"] = asdict(self.input)
        self.audio_encoder = Tower(**self.config["audio_encoder"])
        self.visual_encoder = Tower(**self.config["visual_encoder"])

    def forward(self, images: torch.Tensor, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """images: (b, 48, 128, 256), [-1, 1], `(f c)`: the lower half of 16 RGB frames; mel: (b, 1, 80, 52).

        Returns the visual and the audio vector, (b, d) each, of length 1.
        """
        return self.visual_encoder(images), self.audio_encoder(mel)


def config_from_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """The config of a StableSyncNet read off its tensors; strides cannot be read and are the published ones.

    Raises CheckpointError when the tensors are not those of such a network, or of other depth than the published one.
    """
    try:
        return {name: _read_tower(name, state_dict) for name in PUBLISHED_CONFIG}
    except KeyError as error:
        raise CheckpointError(f"not a StableSyncNet: the tensor {error.args[0]} is missing") from None


def _read_tower(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    pattern = re.compile(rf"{name}\.down_blocks\.(\d+)\.")
    count = 1 + max((int(match[1]) for key in tensors if (match := pattern.match(key))), default=-1)
    widths: list[int] = []
    attends: list[int] = []
    for i in range(count):
        if f"{name}.down_blocks.{i}.attn.to_q.weight" in tensors:
            attends[-1:] = [1]
        else:
            widths.append(tensors[f"{name}.down_blocks.{i}.conv1.weight"].shape[0])
            attends.append(0)
    strides = PUBLISHED_CONFIG[name]["downsample_factors"]
    in_channels = tensors[f"{name}.conv_in.weight"].shape[1]
    if len(widths) != len(strides):
        raise CheckpointError(f"its {name} has {len(widths)} blocks, not the published {len(strides)}: give a config")
    return {
        "in_channels": in_channels,
        "block_out_channels": tuple(widths),
        "downsample_factors": strides,
        "attn_blocks": tuple(attends),
    }
