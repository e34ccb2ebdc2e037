"""LPIPS (Zhang et al. 2018, arXiv 1801.03924) on the lower half of the face.

The linear heads are small and free; the backbone, VGG-16 trained on ImageNet, is the user's to bring: torchvision's
file of its tensors.
"""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import nn

from latentsync.hub.tensors import load_strict, read_pt, read_safetensors
from latentsync.types import InputError

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # of VGG-16's convolutions
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's colours, for pixels in [-1, 1]
LENGTH_FLOOR = 1e-10  # added to the square of a feature's length: the root of 0 has no gradient


class Lpips(nn.Module):
    """VGG-16's features at five depths, compared at every place and weighted by channel. Frozen."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []  # layers whose output is compared: the last of every width, after its ReLU
        inside = 3
        for widths in WIDTHS:
            for width in widths:
                layers += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU()]
                inside = width
            self.taps.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.heads = nn.ModuleList(nn.Conv2d(widths[-1], 1, 1, bias=False) for widths in WIDTHS)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def _depths(self, images: torch.Tensor) -> list[torch.Tensor]:
        """images: (n, 3, h, w) in [-1, 1] -> features at five depths, of length 1 at every place."""
        hidden, found = (images - self.shift) / self.scale, []
        for number, layer in enumerate(self.features):
            hidden = layer(hidden)
            if number in self.taps:
                length = (hidden.square().sum(dim=1, keepdim=True) + LENGTH_FLOOR).sqrt()
                found.append(hidden / length)
        return found

    def forward(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """images, others: (n, 3, h, w) in [-1, 1] -> (n,) distance."""
        pairs = zip(self.heads, self._depths(images), self._depths(others), strict=True)
        return torch.stack([head((a - b).square()).mean(dim=(1, 2, 3)) for head, a, b in pairs]).sum(dim=0)


def load_lpips(backbone: str | Path | None, heads: str | Path | None) -> Lpips:
    """backbone: torchvision's VGG-16 (`.pth` or safetensors); heads: the public `lpips_v0.1_vgg.pth`.

    InputError says what to give where one is missing; CheckpointError where a file is another.
    """
    if backbone is None or heads is None:
        raise InputError(
            "the perceptual loss needs VGG-16 and LPIPS's heads: give losses.perceptual_backbone (torchvision's vgg16 "
            "file) and losses.perceptual_heads (lpips_v0.1_vgg.pth), or set weights.perceptual=0"
        )
    tensors = {key: tensor for key, tensor in _read(Path(backbone)).items() if key.startswith("features.")}
    for key, tensor in _read(Path(heads)).items():
        tensors[key.replace("lin", "heads.").replace(".model.1.", ".")] = tensor
    return load_strict(Lpips(), tensors, Path(backbone)).requires_grad_(False)


def _read(path: Path) -> dict[str, torch.Tensor]:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pt(path)


def perceptual_loss(critic: Lpips, generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """LPIPS of the lower halves, the mean over each window's frames: (b,), gradients to `generated`.

    generated, real: (b, f, 3, h, w) pixel_values, about [-1, 1]
    """
    lower = generated.shape[-2] // 2
    flat = [rearrange(video[..., lower:, :], "b f c h w -> (b f) c h w") for video in (generated, real)]
    return critic(*flat).unflatten(0, (len(generated), -1)).mean(dim=1)
