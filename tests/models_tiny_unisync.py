"""A UniSync of 10,000 weights, of rgb and mel unless told otherwise."""

from __future__ import annotations

from typing import Any

import torch

from latentsync.models.unisync import UniSync

FRONT = {"widths": [8], "strides": [[2, 4]], "residuals": [0]}


def tiny_unisync(visual: dict[str, Any] | None = None, audio: dict[str, Any] | None = None) -> UniSync:
    """Of crops of 32 px; in `eval`, with weights that are always the same."""
    torch.manual_seed(0)
    config = {
        "visual": {"size": 32, **(visual or {})}, "audio": audio or {}, "pictures": FRONT, "mel": FRONT,
        "numbers": {"hidden": 16, "residuals": 0}, "channels": 8, "trunk": {"widths": [16], "residuals": [0]},
        "width": 32,
    }  # fmt: skip
    return UniSync(config).eval()
