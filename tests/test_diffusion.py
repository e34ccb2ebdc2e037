"""Diffusion: the stored guided loop, the exact answer for Gaussian data, properties of noise and conditioning."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from latentsync.diffusion.amplitude import branches, reach
from latentsync.diffusion.conditioning import mask_pixels, mask_to_latents, unet_input
from latentsync.diffusion.noise import frame_noise, mixed_noise
from latentsync.diffusion.sampling import Conditions, sample_window
from latentsync.diffusion.schedulers import SCHEDULERS, make_scheduler
from latentsync.models import unet as unet_room
from latentsync.types import CheckpointError, InputError

GUIDED_DDIM_TOLERANCE = 1e-3
SHAPE = (1, 4, 2, 8, 8)


def test_guided_ddim_parity(parity_dir) -> None:
    stored = load_file(parity_dir / "ddim_guided_io.safetensors")
    weights = torch.load(parity_dir / "unet_stage2.pt", weights_only=True)["state_dict"]
    unet = unet_room.LatentSyncUNet(**unet_room.config_from_state_dict(weights)).eval()
    unet.load_state_dict(unet_room.published_to_diffusers(weights))
    audio = stored["audio_embeds"]
    weighted = branches(audio, torch.zeros(audio.shape[-2:]), stored["guidance_scale"].item())
    inpaint_mask = 1 - stored["mask"]  # stored as the network sees it: 1 = keep
    conditions = Conditions(inpaint_mask, stored["masked_latents"], stored["reference_latents"], weighted)
    steps = int(stored["num_inference_steps"])
    found = sample_window(unet, lambda: make_scheduler("ddim"), stored["noise"], conditions, steps)
    assert (found - stored["expected"]).abs().max() < GUIDED_DDIM_TOLERANCE


class GaussianDenoiser(torch.nn.Module):
    """The exact prediction where clean latents are N(mean, std^2) everywhere."""

    def __init__(self, mean: float, std: float, prediction_type: str):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.mean, self.std, self.prediction_type = mean, std, prediction_type
        self.alphas = make_scheduler("ddim").alphas_cumprod

    def forward(self, sample, timestep, encoder_hidden_states):
        x = sample[:, :4]
        abar = torch.tensor(np.interp(timestep.item(), np.arange(1000), self.alphas.numpy()))
        variance = abar * self.std**2 + 1 - abar
        x0 = self.mean + abar.sqrt() * self.std**2 / variance * (x - abar.sqrt() * self.mean)
        eps = (x - abar.sqrt() * x0) / (1 - abar).sqrt()
        v = abar.sqrt() * eps - (1 - abar).sqrt() * x0
        return SimpleNamespace(sample=(eps if self.prediction_type == "epsilon" else v).float())


def still(audio: torch.Tensor, guidance_scale: float = 1.0, amplitude: float = 1.0) -> Conditions:
    zeros = torch.zeros(SHAPE)
    silence = torch.zeros(audio.shape[-2:])
    return Conditions(torch.ones(8, 8), zeros, zeros, branches(audio, silence, guidance_scale, amplitude))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_schedulers_solve_gaussian_data(name: str, prediction_type: str) -> None:
    mean, std = 1.5, 0.3
    config = {"prediction_type": prediction_type, "timestep_spacing": "trailing"}
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    found = sample_window(
        GaussianDenoiser(mean, std, prediction_type), lambda: make_scheduler(name, config), noise,
        still(torch.zeros(1, 2, 3, 5)), num_inference_steps=200,
    )  # fmt: skip
    # The probability flow carries x_T to the same quantile of the clean distribution.
    abar = make_scheduler("ddim").alphas_cumprod[-1]
    exact = mean + std * (noise - abar.sqrt() * mean) / (abar * std**2 + 1 - abar).sqrt()
    assert (found - exact).abs().max() < 0.06


class AudioEcho(torch.nn.Module):
    """Predicts one number, the mean of the audio tokens, as noise; counts the passes and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[torch.Tensor] = []

    def forward(self, sample, timestep, encoder_hidden_states):
        self.seen.append(sample)
        level = encoder_hidden_states.mean((-2, -1)).reshape(sample.shape[0], 1, -1, 1, 1)
        return SimpleNamespace(sample=torch.ones_like(sample[:, :4]) * level)


def test_guidance_of_one_skips_the_pass_without_audio() -> None:
    audio = torch.rand(1, 2, 3, 5)
    for scale, amplitude, passes in ((1.0, 1.0, 1), (1.5, 1.0, 2), (1.5, 0.5, 3), (1.0, 1.5, 2)):
        unet = AudioEcho()
        sample_window(unet, lambda: make_scheduler("ddim"), torch.zeros(SHAPE), still(audio, scale, amplitude), 2)
        assert len(unet.seen) == 2
        assert unet.seen[0].shape == (passes, 13, 2, 8, 8)


@given(scale=st.floats(1, 4), amplitude=st.floats(0.5, 1.5))
def test_branches_are_the_equation(scale: float, amplitude: float) -> None:
    audio, silence = torch.full((1, 1, 2, 3), 3.0), torch.full((2, 3), 1.0)
    weighted = branches(audio, silence, scale, amplitude)
    a = reach(amplitude)
    assert sum(weight for weight, _ in weighted) == pytest.approx(1)
    summed = sum(weight * tokens.mean().item() for weight, tokens in weighted)
    assert summed == pytest.approx(scale * (1 + a * (3 - 1)))


def test_amplitude_has_a_range() -> None:
    assert reach(1.0) == 1.0
    assert reach(0.5) < reach(0.8) < 1 < reach(1.2) < reach(1.5)
    for amplitude in (0.4, 1.6, float("nan")):
        with pytest.raises(InputError, match="must lie between"):
            reach(amplitude)


def test_thirteen_channels_and_the_masks_polarity() -> None:
    noisy, masked, reference = (torch.full((2, 4, 3, 8, 8), float(value)) for value in (1, 2, 3))
    inpaint_mask = torch.zeros(8, 8)
    inpaint_mask[4:] = 1
    stacked = unet_input(noisy, inpaint_mask, masked, reference)
    assert stacked.shape == (2, 13, 3, 8, 8)
    assert [stacked[0, c, 0, 0, 0].item() for c in range(13)] == [1] * 4 + [1] + [2] * 4 + [3] * 4
    assert stacked[:, 4, :, 4:].eq(0).all(), "regenerated places read 0 in the network's mask channel"


def test_hidden_pixels_are_mid_grey_and_the_small_mask_matches() -> None:
    inpaint_mask = torch.zeros(64, 64)
    inpaint_mask[24:, 16:48] = 1
    masked = mask_pixels(torch.full((1, 2, 3, 64, 64), -0.5), inpaint_mask)
    assert masked[..., 24:, 16:48].eq(0).all() and masked[..., :24, :].eq(-0.5).all()
    small = mask_to_latents(inpaint_mask, 8)
    assert torch.equal(small, torch.nn.functional.interpolate(inpaint_mask[None, None], (8, 8), mode="nearest")[0, 0])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_mixed_noise_has_unit_variance_and_the_shared_correlation(alpha: float) -> None:
    noise = mixed_noise((64, 4, 2, 16, 16), torch.Generator().manual_seed(1), alpha)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    pair = torch.stack([noise[:, :, 0].flatten(), noise[:, :, 1].flatten()])
    assert torch.corrcoef(pair)[0, 1].item() == pytest.approx(alpha**2 / (1 + alpha**2), abs=0.02)


def test_frame_noise_is_a_function_of_seed_track_and_frame() -> None:
    shape = (4, 32, 32)
    first = frame_noise(7, 3, 11, shape)
    torch.manual_seed(99)
    assert torch.equal(first, frame_noise(7, 3, 11, shape))
    same_track = torch.corrcoef(torch.stack([first.flatten(), frame_noise(7, 3, 12, shape).flatten()]))[0, 1]
    assert same_track.item() == pytest.approx(0.5, abs=0.05)
    for other in (frame_noise(8, 3, 11, shape), frame_noise(7, 4, 11, shape)):
        assert abs(torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]) < 0.05


def test_unknown_names_and_entries_are_told() -> None:
    with pytest.raises(InputError, match="ddim, dpm\\+\\+, euler"):
        make_scheduler("plms")
    with pytest.raises(CheckpointError, match="beta_strat"):
        make_scheduler("ddim", {"beta_strat": 0.1})
    assert make_scheduler("euler", {"_class_name": "DDIMScheduler", "beta_end": 0.02}).config.beta_end == 0.02


def test_a_steady_context_keeps_what_stands_still_and_calms_what_trembles() -> None:
    from latentsync.diffusion.conditioning import steady_context

    still = torch.full((1, 4, 16, 2, 2), 3.0)
    trembling = still + torch.tensor([1.0, -1.0]).repeat(8)[None, None, :, None, None]
    torch.testing.assert_close(steady_context(still, 4.0), still)
    assert (steady_context(trembling, 4.0) - still).abs().max() < 0.1
    assert torch.equal(steady_context(trembling, 0), trembling)
    late = torch.zeros(1, 4, 16, 2, 2)
    late[:, :, 12] = 1.0
    assert int(steady_context(late, 1.0)[0, 0, :, 0, 0].argmax()) == 12  # no frame lags behind
