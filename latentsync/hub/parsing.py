"""Segmentation networks of faces by a name or a path, through transformers."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from latentsync.types import CheckpointError

INPUT_SIZE = (512, 384)  # px (height, width): 512 is what such networks were trained at, the aligned face is 4 to 3
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours


class FaceParser(torch.nn.Module):
    """A frozen network that names the region of each pixel, e.g. SegFormer's trained on CelebAMask-HQ."""

    def __init__(self, network: torch.nn.Module, source: str) -> None:
        super().__init__()
        self.network, self.source = network.eval().requires_grad_(False), source
        self.regions: int = network.config.num_labels  # type: ignore[union-attr, assignment]

    @torch.no_grad()
    def forward(self, pixel_values: torch.Tensor, size: int) -> torch.Tensor:
        """pixel_values: (b, 3, r, r) aligned crops, [-1, 1] -> (b, size, size) uint8, the region of each pixel."""
        colours = F.interpolate(pixel_values / 2 + 0.5, INPUT_SIZE, mode="bilinear", antialias=True)
        mean, spread = (colours.new_tensor(values)[:, None, None] for values in (MEAN, SPREAD))
        logits = self.network((colours - mean) / spread).logits
        return F.interpolate(logits, (size, size), mode="bilinear", antialias=True).argmax(dim=1).byte()


def load_face_parser(name: str | Path) -> FaceParser:
    """name: a folder or a hub name of transformers' (e.g. a SegFormer for face parsing), safetensors.

    CheckpointError when it is not exactly such a network.
    """
    from transformers import AutoModelForSemanticSegmentation

    try:
        network, told = AutoModelForSemanticSegmentation.from_pretrained(
            str(name), output_loading_info=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{name} is no segmentation network that can be loaded ({reason}): give a folder or a hub name of "
            "transformers', or visual.parser=null for regions drawn from the landmarks"
        ) from error
    faults = sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]]))
    if faults:
        raise CheckpointError(f"{name} does not hold the network it describes: missing {', '.join(faults[:5])}")
    return FaceParser(network, f"network {Path(str(name)).name}")
