"""Other looks and other voices: what they change, and what they must not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentsync.audio.mel import LOG_MEL_CENTRE, LOG_MEL_SPAN, log_mel
from latentsync.data.augmentation import Look, Voice

RESOLUTION = 32


def tone(hertz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)).astype(np.float32)


def look(**wanted) -> Look:
    """A look that changes nothing but what is `wanted`."""
    places = np.stack(np.meshgrid(*[np.arange(RESOLUTION, dtype=np.float32)] * 2), axis=-1)
    curves = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    return Look(**{"mirrored": False, "curves": curves, "saturation": 1.0, "places": places, **wanted})


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, RESOLUTION, RESOLUTION, 3), dtype=np.uint8)


@pytest.mark.parametrize(("hertz", "stretch"), [(500, 1.2), (1000, 1.2), (3000, 0.85)])
def test_a_stretched_voice_sounds_as_if_its_frequencies_were_multiplied(hertz, stretch) -> None:
    heard = Voice(stretch=stretch)(log_mel(tone(hertz)))[:, 20:80].mean(dim=1)
    expected = log_mel(tone(hertz * stretch))[:, 20:80].mean(dim=1)
    assert abs(int(heard.argmax()) - int(expected.argmax())) <= 1


def test_a_tilt_raises_the_treble_and_lowers_the_bass_by_half_each() -> None:
    loud = torch.zeros(80, 4)
    tilted = Voice(tilt=8.0)(loud) * LOG_MEL_SPAN * 10  # dB
    assert tilted[0].tolist() == pytest.approx([-4.0] * 4) and tilted[-1].tolist() == pytest.approx([4.0] * 4)


def test_noise_fills_the_silence_and_leaves_the_speech() -> None:
    silent, loud = torch.full((80, 50), -1.0), torch.full((80, 50), 1.0)
    noisy = Voice(noise=-4.0, seed=1)
    power = noisy(silent) * LOG_MEL_SPAN + LOG_MEL_CENTRE
    assert power.mean().item() == pytest.approx(-4.0, abs=0.05)
    assert (noisy(loud) - loud).abs().max() < 1e-3
    assert torch.equal(noisy(silent), Voice(noise=-4.0, seed=1)(silent))


def test_the_same_numbers_make_the_same_voice_and_look() -> None:
    voices = [Voice.random(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert voices[0] == voices[1] != voices[2]
    changed = [Look.random(np.random.default_rng(seed), RESOLUTION)(pictures()) for seed in (1, 1, 2)]
    assert (changed[0] == changed[1]).all() and (changed[0] != changed[2]).any()


def test_a_look_that_asks_for_nothing_changes_nothing() -> None:
    assert (look()(pictures()) == pictures()).all()


def test_a_look_mirrors_and_recolours() -> None:
    assert (look(mirrored=True)(pictures()) == pictures()[:, :, ::-1]).all()
    negative = np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[:, None], 3, axis=1)
    assert (look(curves=negative)(pictures()) == 255 - pictures()).all()
    assert np.ptp(look(saturation=0.0)(pictures()).astype(int), axis=-1).max() == 0


def test_every_frame_of_a_clip_gets_the_same_look() -> None:
    """A person must not change from frame to frame: equal frames stay equal, and different ones keep their order."""
    still = np.repeat(pictures()[:1], 4, axis=0)
    changed = Look.random(np.random.default_rng(3), RESOLUTION)(still)
    assert (changed == changed[:1]).all() and (changed != still).any()
