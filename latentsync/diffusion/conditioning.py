"""The one home of the network's 13 input channels and of the mask's polarity.

Inside the project a mask is `inpaint_mask`, 1 = regenerate and 0 = keep. The published weights were trained on a mask
channel of the other polarity (1 = keep); the conversion happens in `unet_input` and nowhere else.
"""

from __future__ import annotations

import torch

LATENT_CHANNELS = 4
UNET_CHANNELS = 3 * LATENT_CHANNELS + 1  # noisy latents, mask, masked latents, reference latents


def unet_input(
    noisy_latents: torch.Tensor,
    inpaint_mask: torch.Tensor,
    masked_latents: torch.Tensor,
    reference_latents: torch.Tensor,
) -> torch.Tensor:
    """Stack what the network sees, in the published order: noisy 4, mask 1, masked image 4, reference 4.

    noisy_latents, masked_latents, reference_latents: (b, 4, f, h, w) scaled latents
    inpaint_mask: broadcastable to (b, 1, f, h, w), at latent size, 1 = regenerate
    returns: (b, 13, f, h, w); its mask channel is 1 = keep, as the published weights expect
    """
    b, _, f, h, w = noisy_latents.shape
    keep = (1 - inpaint_mask).to(noisy_latents).expand(b, 1, f, h, w)
    return torch.cat([noisy_latents, keep, masked_latents, reference_latents], dim=1)


def mask_pixels(pixel_values: torch.Tensor, inpaint_mask: torch.Tensor) -> torch.Tensor:
    """Hide what is to be regenerated: hidden pixels become 0, mid grey.

    pixel_values: (b, f, 3, h, w) in [-1, 1]
    inpaint_mask: broadcastable to (b, f, 1, h, w), so (h, w) will do; 1 = regenerate
    returns: (b, f, 3, h, w)
    """
    return pixel_values * (1 - inpaint_mask).to(pixel_values)


def mask_to_latents(inpaint_mask: torch.Tensor, scale: int) -> torch.Tensor:
    """Reduce a mask from crop size to latent size by nearest neighbour.

    inpaint_mask: (..., H, W), 1 = regenerate; H and W are multiples of `scale`
    scale: the autoencoder's spatial factor
    returns: (..., H / scale, W / scale)
    """
    height, width = inpaint_mask.shape[-2:]
    assert height % scale == 0 and width % scale == 0, (height, width, scale)
    return inpaint_mask[..., ::scale, ::scale]


def steady_context(masked_latents: torch.Tensor, frames: float) -> torch.Tensor:
    """What surrounds the mouth, smoothed in time, so that its movement does not tell how the old mouth moved.

    Brows, eyes and nose move with the speech, and a network that has seen them do so draws the old mouth from them.
    masked_latents: (b, 4, f, h, w); frames: standard deviation of the Gaussian weights, 0 leaves all as it is
    returns: (b, 4, f, h, w), every frame a weighted mean of its window's
    """
    if frames == 0:
        return masked_latents
    places = torch.arange(masked_latents.shape[2], device=masked_latents.device, dtype=masked_latents.dtype)
    weights = torch.softmax(-((places[:, None] - places) ** 2) / (2 * frames**2), dim=1)
    return torch.einsum("g f, b c f h w -> b c g h w", weights, masked_latents)
