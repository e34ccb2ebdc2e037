"""UniSync (arXiv 2503.16357): does a mouth belong to a sound, whatever either of them is represented by?

One visual and one audio representation a network. Each goes through a front part of its own (the paper's e1 and e3) to
one number of channels, is pooled to one size, and through a trunk (e2, e4) to a vector without negative entries; the
cosine of both is p_sync. Only 2-D convolutions, BatchNorm, activations and residuals. Height is time where a
representation has no height of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import rearrange

from latentsync.types import FEATURE_RATE, MODEL_FPS

FRAMES = 5  # of a window: 0.2 s
MEL_COLUMNS = 16  # of a window: 0.2 s at 80 a second
FEATURE_ROWS = round(FRAMES * FEATURE_RATE / MODEL_FPS)  # of a window: 10
MEL_BANDS = 80
POOLED = (5, 8)  # places of every representation before the trunk
# Numbers are filled up with zeros to a multiple of this: of 956 finite ones torch 2.13 made a channel of NaN at random
# on a CPU with AVX-512.
WHOLE_CHANNELS = 16
PICTURE_KERNEL = 7  # of a picture's first convolution
THRESHOLD = 0.5  # p_sync from which picture and sound count as of one moment

PICTURES = ("rgb", "parsing")
NUMBERS = ("landmarks", "3dmm")
SOUNDS = ("mel", "features")
ALL_LEVELS = "all"  # of a speech network, side by side

Stride = int | Sequence[int]  # one number, or (height, width)


@dataclass(frozen=True)
class Visual:
    """What the visual side looks at in each of `FRAMES` frames."""

    kind: str = "rgb"  # rgb: lower half of the crop | parsing: its regions | landmarks | 3dmm
    width: int = 3  # colours, regions, or numbers of a frame
    size: int = 96  # px along one side of the whole crop (rgb and parsing)
    source: str = "crops"  # what the representation was made by, for people

    @property
    def pixels(self) -> bool:
        """Whether it looks at colours."""
        return self.kind == "rgb"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the first convolution sees."""
        height = {"rgb": self.size // 2, "parsing": self.size}.get(self.kind)
        return (FRAMES * self.width, height, self.size) if height else (self.width, FRAMES, 1)


@dataclass(frozen=True)
class Audio:
    """What the audio side listens to."""

    kind: str = "mel"  # mel: SyncNet's | features: rows of a speech network at 50 a second
    width: int = MEL_BANDS  # bands, or numbers of a row
    level: int | str = -1  # which of the speech network's levels; ALL_LEVELS: side by side
    source: str = "mel"  # what made it, for people

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the first convolution sees."""
        return (1, MEL_COLUMNS, self.width) if self.kind == "mel" else (self.width, FEATURE_ROWS, 1)


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, ReLU; beside a shortcut where it is residual."""

    def __init__(self, in_channels: int, channels: int, kernel: Stride = 3, stride: Stride = 1, *, residual: bool):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, _pair(kernel), _pair(stride), _half(kernel), bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (b, in_channels, h, w) -> (b, channels, h / stride, w / stride)."""
        made = self.norm(self.conv(x))
        return F.relu(made + x if self.residual else made)


def _pair(value: Stride) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _half(kernel: Stride) -> tuple[int, int]:
    height, width = _pair(kernel)
    return height // 2, width // 2


def _stage(in_channels: int, channels: int, residuals: int, kernel: Stride, stride: Stride) -> list[nn.Module]:
    """A convolution, then residual ones."""
    inner = [ConvBlock(channels, channels, residual=True) for _ in range(residuals)]
    return [ConvBlock(in_channels, channels, kernel, stride, residual=False), *inner]


class PictureFront(nn.Sequential):
    """For what is large: strided convolutions reduce it."""

    def __init__(
        self, in_channels: int, kernel: int, widths: Sequence[int], strides: Sequence[Stride], residuals: Sequence[int]
    ):
        stages: list[nn.Module] = []
        for number, (channels, stride, inner) in enumerate(zip(widths, strides, residuals, strict=True)):
            stages += _stage(in_channels, channels, inner, 3 if number else kernel, stride)
            in_channels = channels
        super().__init__(*stages)


class NumbersFront(nn.Module):
    """For what is small, numbers by time: convolutions over time, then spread over places."""

    def __init__(self, in_channels: int, hidden: int, residuals: int, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)  # coordinates and coefficients differ in size by far
        self.filled = -in_channels % WHOLE_CHANNELS
        self.conv = ConvBlock(in_channels + self.filled, hidden, (3, 1), residual=False)
        self.inner = nn.Sequential(*(ConvBlock(hidden, hidden, (3, 1), residual=True) for _ in range(residuals)))
        self.spread = nn.ConvTranspose2d(hidden, channels, (1, POOLED[1]), bias=False)
        self.norm_out = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (b, in_channels, time, 1) -> (b, channels, time, 8)."""
        x = F.pad(self.norm(x), (0, 0, 0, 0, 0, self.filled))
        return F.relu(self.norm_out(self.spread(self.inner(self.conv(x)))))


class Trunk(nn.Module):
    """e2 and e4: the pooled map to one vector."""

    def __init__(self, channels: int, widths: Sequence[int], residuals: Sequence[int], width: int):
        super().__init__()
        stages: list[nn.Module] = []
        size = POOLED
        for wider, inner in zip(widths, residuals, strict=True):
            stages += _stage(channels, wider, inner, 3, 2)
            channels, size = wider, (-(-size[0] // 2), -(-size[1] // 2))
        self.stages = nn.Sequential(*stages)
        self.conv_out = nn.Conv2d(channels, width, size, bias=False)
        self.norm_out = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (b, channels, 5, 8) -> (b, width) of length 1, no entry negative."""
        made = self.norm_out(self.conv_out(self.stages(x))).flatten(1)
        return F.normalize(F.relu(made.float()), dim=1)


class UniSync(nn.Module):
    """Both sides; `forward` gives p_sync, `see` and `hear` the vectors whose cosine it is."""

    def __init__(self, config: Mapping[str, Any]):
        """config: `visual` and `audio`, the arguments of `Visual` and `Audio`; `pictures`, `mel` (widths, strides,
        residuals) and `numbers` (hidden, residuals), of the front parts; `channels` that they end in; `trunk` (widths,
        residuals); `width` of the vectors. See `unisync_shapes.check_network`.
        """
        super().__init__()
        self.config: dict[str, Any] = {
            key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()
        }
        self.basis: torch.Tensor | None = None  # (numbers, landmarks) of a fitted basis, where 3dmm is of one
        self.visual, self.audio = Visual(**self.config["visual"]), Audio(**self.config["audio"])
        channels, width = self.config["channels"], self.config["width"]
        self.visual_front = self._front(self.visual.kind, self.visual.shape[0])
        self.visual_trunk = Trunk(channels, width=width, **self.config["trunk"])
        self.audio_front = self._front(self.audio.kind, self.audio.shape[0])
        self.audio_trunk = Trunk(channels, width=width, **self.config["trunk"])

    def _front(self, kind: str, in_channels: int) -> nn.Module:
        if kind in PICTURES:
            return PictureFront(in_channels, PICTURE_KERNEL, **self.config["pictures"])
        if kind == "mel":
            return PictureFront(in_channels, 3, **self.config["mel"])
        return NumbersFront(in_channels, channels=self.config["channels"], **self.config["numbers"])

    def see(self, visual: torch.Tensor) -> torch.Tensor:
        """(b, width) of length 1. visual, by kind:

        rgb: (b, 15, size / 2, size) lower halves, [-1, 1], `(f c)`; parsing: (b, 5, size, size) integers, the region of
        each pixel; landmarks and 3dmm: (b, 5, numbers)
        """
        return self.visual_trunk(F.adaptive_avg_pool2d(self.visual_front(self._seen(visual)), POOLED))

    def _seen(self, visual: torch.Tensor) -> torch.Tensor:
        if self.visual.kind == "rgb":
            return visual
        if self.visual.kind == "parsing":
            regions = F.one_hot(visual.long(), self.visual.width).to(next(self.parameters()).dtype)
            return rearrange(regions, "b f h w c -> b (f c) h w")
        return rearrange(visual, "b f n -> b n f 1")

    def hear(self, sound: torch.Tensor) -> torch.Tensor:
        """(b, width) of length 1. sound: mel (b, 1, 80, 16), or features (b, 10, numbers)."""
        shaped = rearrange(sound, "b c m t -> b c t m" if self.audio.kind == "mel" else "b t m -> b m t 1")
        return self.audio_trunk(F.adaptive_avg_pool2d(self.audio_front(shaped), POOLED))

    def forward(
        self,
        visual: torch.Tensor,
        sound: torch.Tensor,
        shown: torch.Tensor | None = None,
        heard: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """p_sync (b,) float32 in [0, 1]; visual as `see`, sound as `hear`.

        shown, heard: (b,) int64 which of them each pair is of; None: the first with the first and so on
        """
        seen, spoken = self.see(visual), self.hear(sound)
        if shown is not None and heard is not None:
            seen, spoken = seen[shown], spoken[heard]
        return (seen * spoken).sum(dim=1)
