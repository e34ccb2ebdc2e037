"""How far the mouth moves: one knob, 0.5 to 1.5, and the guidance it becomes.

At every step the network predicts for up to three kinds of audio tokens: zeros (no audio known), digital silence
(a closed mouth), and the speech. Classifier-free guidance (Ho and Salimans 2022, equation 6) goes from zeros towards
the audio; amplitude replaces the audio's prediction by a point on the line from silence's through speech's:

    pred = pred_0 + g * (pred_silence + a * (pred_speech - pred_silence) - pred_0)

with g the guidance scale and a = `reach(amplitude)`: below 1 it stays nearer to the closed mouth, above 1 it goes past
the speech. At amplitude 1 silence has no weight and costs nothing; elsewhere a step costs one more pass.
"""

from __future__ import annotations

import torch

from latentsync.types import InputError

MIN_AMPLITUDE, MAX_AMPLITUDE = 0.5, 1.5
# How far `a` moves for a unit of the knob. Measured at 1.0 with the embedded model (benchmarks/results/amplitude.md):
# the lip gap's spread is 0.42 of its own at 0.5, and 1.17 of it at 1.5.
REACH_PER_AMPLITUDE = 1.0


def reach(amplitude: float) -> float:
    """The factor `a` above, for a knob of 0.5 to 1.5; 1 at 1.

    raises: InputError outside that range
    """
    if not MIN_AMPLITUDE <= amplitude <= MAX_AMPLITUDE:
        raise InputError(f"Amplitude is {amplitude}; it must lie between {MIN_AMPLITUDE} and {MAX_AMPLITUDE}.")
    return 1 + REACH_PER_AMPLITUDE * (amplitude - 1)


def branches(
    audio_windows: torch.Tensor, silence: torch.Tensor, guidance_scale: float, amplitude: float = 1.0
) -> list[tuple[float, torch.Tensor]]:
    """The weighted sets of audio tokens whose predictions add up to the guided one.

    audio_windows: (b, f, n, d) tokens of the speech
    silence: (n, d) tokens of digital silence
    returns: up to three (weight, (b, f, n, d) tokens), in the order zeros, silence, speech; the weights sum to 1, sets
        of weight 0 are left out
    """
    toward_speech = reach(amplitude)
    weighted = [
        (1 - guidance_scale, torch.zeros_like(audio_windows)),
        (guidance_scale * (1 - toward_speech), silence.to(audio_windows).expand_as(audio_windows)),
        (guidance_scale * toward_speech, audio_windows),
    ]
    return [(weight, tokens) for weight, tokens in weighted if weight != 0]
