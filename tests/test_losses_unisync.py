"""UniSync's margin loss: its forms against each other and by hand, where it has gradients, and what it can cost."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from models_tiny_unisync import tiny_unisync

from latentsync.audio.mel import syncnet_mel
from latentsync.data.unisync import mel_window, visual_window
from latentsync.losses.unisync import MarginLoss, unisync_pixel_loss
from latentsync.types import InputError

shares = st.floats(0.001, 0.999)
margins = st.floats(0.01, 0.95)
PRINTED, STRICT, BCE = (MarginLoss(form, 0.1, 0.3) for form in ("printed", "strict", "bce"))


def negative(loss: MarginLoss, p: float, other: float = 0.0) -> tuple[float, float]:
    """Loss and gradient of one negative."""
    likely = torch.tensor([p], dtype=torch.float64).float().requires_grad_()
    value = loss(likely, torch.zeros(1), torch.tensor([other]))
    value.backward()
    assert likely.grad is not None
    return value.item(), likely.grad.item()


@given(shares, margins)
def test_as_printed_a_negative_within_the_margin_is_free_and_none_costs_more_than_its_cap(p: float, m: float) -> None:
    value, gradient = negative(MarginLoss("printed", m, m), p)
    if p <= m:
        assert value == 0 and gradient == 0
    assert value <= -math.log(m) + 1e-5
    at_one, _ = negative(MarginLoss("printed", m, m), 1.0)
    assert at_one == pytest.approx(-math.log(m), rel=1e-4)


@given(shares, margins)
def test_strict_costs_at_least_the_cross_entropy_and_printed_at_most(p: float, m: float) -> None:
    printed, plain, strict = (negative(MarginLoss(form, m, m), p)[0] for form in ("printed", "bce", "strict"))
    assert printed <= plain + 1e-6 and plain <= strict + 1e-6


@given(shares)
def test_a_strict_negative_is_pushed_down_until_it_is_believed_too_much(p: float) -> None:
    _, gradient = negative(STRICT, p)
    assert gradient > 0 if p < 0.89 else gradient >= 0


def test_the_margin_is_that_of_the_negatives_kind() -> None:
    assert negative(PRINTED, 0.25)[0] == pytest.approx(-math.log(1 - 0.15), rel=1e-5)
    assert negative(PRINTED, 0.25, other=1.0) == (0.0, 0.0)
    assert negative(STRICT, 0.25, other=1.0)[0] == pytest.approx(-math.log(1 - 0.55), rel=1e-5)


@pytest.mark.parametrize("form", ["printed", "strict", "bce"])
def test_without_margins_every_form_is_torchs_cross_entropy(form: str) -> None:
    likely, match = torch.rand(50, generator=torch.Generator().manual_seed(0)), (torch.arange(50) % 2).float()
    found = MarginLoss(form, 0.0, 0.0)(likely, match, torch.zeros(50))
    torch.testing.assert_close(found, F.binary_cross_entropy(likely, match))


@pytest.mark.parametrize("loss", [PRINTED, STRICT, BCE])
@pytest.mark.parametrize("match", [0.0, 1.0])
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_it_is_finite_at_the_edges_in_any_precision(loss: MarginLoss, match: float, p: float) -> None:
    likely = torch.full((3,), p, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(likely, torch.full((3,), match), torch.tensor([0.0, 1.0, 0.0]))
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite()
    assert likely.grad is not None and likely.grad.isfinite().all()


def test_the_best_constant_answer() -> None:
    assert MarginLoss("bce", 0.0, 0.0).of_a_constant(0.2) == pytest.approx(math.log(2), abs=1e-5)
    # By hand: half of -log p and half of -log(1 - (p - 0.5)), least where p = 3/4.
    assert MarginLoss("printed", 0.5, 0.5).of_a_constant(0.0) == pytest.approx(-math.log(0.75), abs=1e-5)
    assert PRINTED.of_a_constant(0.2) < math.log(2) < STRICT.of_a_constant(0.2)


def test_decoded_frames_are_judged_in_windows_of_five_with_their_own_sound() -> None:
    network = tiny_unisync().requires_grad_(False)
    frames, sound = torch.rand(2, 16, 3, 32, 32) * 2 - 1, 0.1 * torch.randn(2, 32_000)
    mel = torch.stack([syncnet_mel(waveform.numpy())[None, :, 32:84] for waveform in sound])  # from frame 10 on
    frames.requires_grad_()
    loss = unisync_pixel_loss(network, frames, mel)
    expected = torch.zeros(2)
    for clip in range(2):
        crops = ((frames[clip].detach() + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        for first in (0, 5, 10):
            shown = visual_window(crops[first : first + 5], network.visual)
            heard = mel_window(sound[clip].numpy(), 10 + first)
            expected[clip] -= network(shown[None], heard[None]).log()[0] / 3
    torch.testing.assert_close(loss, expected, atol=2e-3, rtol=1e-2)  # crops are whole grey levels
    loss.sum().backward()
    assert frames.grad is not None and frames.grad[:, :15, :, 16:].abs().sum(dim=(2, 3, 4)).min() > 0
    assert frames.grad[:, 15].abs().sum() == 0 and frames.grad[..., :16, :].abs().sum() == 0
    with pytest.raises(AssertionError, match="not frozen"):
        unisync_pixel_loss(network.requires_grad_(True), frames, mel)


@pytest.mark.parametrize("wrong", [{"form": "soft"}, {"same_speaker": 1.0}, {"cross_speaker": -0.1}])
def test_a_loss_that_cannot_be_is_named(wrong: dict) -> None:
    with pytest.raises(InputError, match=rf"loss\.{next(iter(wrong))}"):
        MarginLoss(**wrong)
