"""The sync losses: against PyTorch's own, safe at their edges, with gradients for the mouth and for nothing else."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from latentsync.losses.sync import cosine_bce, latent_sync_loss, pixel_sync_loss
from latentsync.models.stable_syncnet import StableSyncNet


def critic(space: str = "pixel", frames: int = 2) -> StableSyncNet:
    tower = {"block_out_channels": [32, 32, 32, 128], "attn_blocks": [0, 0, 0, 0]}
    torch.manual_seed(0)
    network = StableSyncNet(
        {
            "input": {"space": space, "frames": frames, "size": 16},
            "visual_encoder": {
                "in_channels": frames * (3 if space == "pixel" else 4),
                "downsample_factors": [[1, 2], 2, 2, 2],
                **tower,
            },
            "audio_encoder": {"in_channels": 1, "downsample_factors": [3, 3, 3, 3], **tower},
        }
    )
    return network.eval().requires_grad_(False)


def unit(*rows: list[float]) -> torch.Tensor:
    return F.normalize(torch.tensor(rows), dim=1)


def test_known_answers() -> None:
    right_angle = unit([1.0, 0.0]), unit([0.0, 1.0])
    third = unit([1.0, 0.0]), unit([0.5, math.sqrt(0.75)])  # cosine 1/2
    yes, no = torch.ones(1), torch.zeros(1)
    assert cosine_bce(*third, yes).item() == pytest.approx(math.log(2), abs=1e-6)
    assert cosine_bce(*third, no).item() == pytest.approx(math.log(2), abs=1e-6)
    assert cosine_bce(*right_angle, no).item() == pytest.approx(0, abs=1e-5)
    assert cosine_bce(*right_angle, yes).item() > 10


def test_it_is_the_cross_entropy_of_the_cosine_similarity() -> None:
    generator = torch.Generator().manual_seed(1)
    visual, audio = (F.normalize(torch.rand(6, 9, generator=generator), dim=1) for _ in range(2))
    match = torch.tensor([1.0, 0, 1, 0, 0, 1])
    expected = torch.nn.BCELoss()(F.cosine_similarity(visual, audio), match)
    torch.testing.assert_close(cosine_bce(visual, audio, match), expected)


@pytest.mark.parametrize("match", [0.0, 1.0])
def test_gradients_have_a_bound_where_the_cosine_is_0_or_1(match: float) -> None:
    visual, audio = unit([1.0, 0.0], [1.0, 0.0]).requires_grad_(), unit([0.0, 1.0], [1.0, 0.0])
    cosine_bce(visual, audio, torch.full((2,), match)).backward()
    assert visual.grad is not None and visual.grad.isfinite().all() and visual.grad.abs().max() < 1e7


def test_the_pixel_critic_teaches_the_lower_half_only() -> None:
    network, mel = critic(), torch.randn(3, 1, 80, 52)
    frames = torch.rand(3, 2, 3, 16, 16).requires_grad_()
    loss = pixel_sync_loss(network, frames, mel)
    visual, audio = network(frames[..., 8:, :].flatten(1, 2), mel)
    torch.testing.assert_close(loss, -F.cosine_similarity(visual, audio).log().mean())
    loss.backward()
    assert (
        frames.grad is not None and frames.grad[..., 8:, :].abs().sum() > 0 and frames.grad[..., :8, :].abs().sum() == 0
    )
    assert all(parameter.grad is None for parameter in network.parameters())


def test_frames_of_another_size_are_brought_to_the_critics() -> None:
    frames = torch.rand(1, 2, 3, 40, 40).requires_grad_()
    pixel_sync_loss(critic(), frames, torch.randn(1, 1, 80, 52)).backward()
    assert frames.grad is not None and frames.grad.abs().sum() > 0


def test_the_latent_critic_takes_latents_as_they_are() -> None:
    network, mel = critic("latent"), torch.randn(1, 1, 80, 52)
    latents = torch.randn(1, 4, 2, 16, 16)
    visual, audio = network(latents[..., 8:, :].transpose(1, 2).flatten(1, 2), mel)
    expected = -F.cosine_similarity(visual, audio).log().mean()
    torch.testing.assert_close(latent_sync_loss(network, latents, mel), expected)


def test_a_critic_that_would_learn_too_is_refused() -> None:
    with pytest.raises(AssertionError, match="not frozen"):
        pixel_sync_loss(critic().requires_grad_(True), torch.rand(1, 2, 3, 16, 16), torch.randn(1, 1, 80, 52))
