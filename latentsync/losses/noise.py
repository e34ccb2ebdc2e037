"""The denoising loss: how far the network's prediction is from what was asked for."""

from __future__ import annotations

import torch


def noise_loss(
    prediction: torch.Tensor, target: torch.Tensor, inpaint_mask: torch.Tensor | None = None, kept_weight: float = 1.0
) -> torch.Tensor:
    """Mean squared error of every window (Ho et al. 2020, arXiv 2006.11239, equation 14): (b,).

    prediction, target: (b, c, f, h, w) noise or velocity; inpaint_mask: broadcastable, at latent size, 1 = regenerate;
    kept_weight: of a place that the mask keeps, beside 1 of the others
    """
    squared = (prediction.float() - target.float()).square()
    if inpaint_mask is None or kept_weight == 1.0:
        return squared.mean(dim=(1, 2, 3, 4))
    weight = (kept_weight + (1 - kept_weight) * inpaint_mask).expand_as(squared)
    return (squared * weight).mean(dim=(1, 2, 3, 4)) / weight.mean(dim=(1, 2, 3, 4))
