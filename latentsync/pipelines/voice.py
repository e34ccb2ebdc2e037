"""Audio tokens on the video clock, moved towards those of silence where nobody speaks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentsync.audio.features import WaveformSource
from latentsync.audio.silence import SilenceGate
from latentsync.pipelines.networks import Networks


class Voice:
    """What the network hears of one waveform, at any video time; memory does not grow with the waveform's length."""

    def __init__(self, networks: Networks, waveform: WaveformSource, *, silence_gate: bool) -> None:
        self._networks = networks
        self._stream = networks.audio_stream(waveform)
        self._gate = SilenceGate(waveform) if silence_gate else None

    def tokens(self, times: Sequence[float]) -> torch.Tensor:
        """times: (f,) seconds -> (f, n, d) float32 audio tokens."""
        tokens = self._networks.tokens(self._stream, times)
        if self._gate is None:
            return tokens
        gains = torch.from_numpy(self._gate.gains(times)).to(tokens)[:, None, None]
        return torch.lerp(self._networks.silence().expand_as(tokens), tokens, gains)
