"""SyncNet v2 (Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016), the field's LSE-C and LSE-D.

Both towers end in vectors whose distance says how badly picture and sound agree. The tensors' names are those of the
published file, so it loads as it is.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn

FRAMES = 5  # of a window, at 25 a second
SIDE = 224  # px of the pictures
COLUMNS = 20  # MFCC columns of a window, at 100 a second
WIDTH = 1024  # of the vectors


class SyncNet(nn.Module):
    """Pictures of a face and MFCC -> vectors of 1024 numbers, not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_audio(1, 64), nn.MaxPool2d(1, 1),
            *_audio(64, 192), nn.MaxPool2d(3, (1, 2)),
            *_audio(192, 384), *_audio(384, 256), *_audio(256, 256), nn.MaxPool2d(3, 2),
            *_audio(256, 512, (5, 4), 0),
        )  # fmt: skip
        self.netcnnlip = nn.Sequential(
            *_visual(3, 96, (FRAMES, 7, 7), 2, 0), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_visual(96, 256, (1, 5, 5), 2, 1), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_visual(256, 256), *_visual(256, 256), *_visual(256, 256), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_visual(256, 512, (1, 6, 6), 1, 0),
        )  # fmt: skip
        self.netfcaud, self.netfclip = _head(), _head()

    def see(self, images: torch.Tensor) -> torch.Tensor:
        """images: (b, 3, f, 224, 224) float32 BGR 0..255, f at least 5 -> (b, f - 4, 1024), one for every 5 in a row.

        Only the first layer looks across frames, so a run of frames costs no more than what is new in it.
        """
        seen = rearrange(self.netcnnlip(images), "b c f 1 1 -> b f c")
        return self.netfclip(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])

    def hear(self, mfcc: torch.Tensor) -> torch.Tensor:
        """mfcc: (b, 1, 13, 20) float32 -> (b, 1024)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))


def _audio(
    in_channels: int, out_channels: int, kernel: int | tuple[int, int] = 3, padding: int = 1
) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding)
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)


def _visual(
    in_channels: int, out_channels: int, kernel: tuple[int, int, int] = (1, 3, 3), stride: int = 1, padding: int = 1
) -> tuple[nn.Module, ...]:
    conv = nn.Conv3d(in_channels, out_channels, kernel, (1, stride, stride), (0, padding, padding))
    return conv, nn.BatchNorm3d(out_channels), nn.ReLU(inplace=True)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, WIDTH))
