"""UniSync's loss (arXiv 2503.16357): cross-entropy of p_sync, negatives with a margin that hangs on their kind.

    L = -(1/N) sum_i [ y_i log p_i + (1 - y_i) log(1 - max(0, p_i - m_i)) ]

As printed the margin relaxes negatives: one with p <= m costs nothing and has no gradient, and none costs more than
-log m. The prose says the margin makes the task stricter: the form `strict` is log(1 - min(1 - eps, p + m)) instead,
which has no gradient above p = 1 - m: a negative that is believed that much stays so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange

from latentsync.losses.sync import EDGE
from latentsync.models.stable_syncnet import VisualInput, lower_half
from latentsync.models.unisync import FRAMES, MEL_COLUMNS, UniSync
from latentsync.types import InputError

FORMS = ("printed", "strict", "bce")
TRIED = 999  # constant answers among which the best is looked for


@dataclass(frozen=True)
class MarginLoss:
    """One form of the loss with its margins. InputError for a form or a margin that there cannot be."""

    form: str = "printed"
    same_speaker: float = 0.1  # margin of a negative from the same clip
    cross_speaker: float = 0.3  # and of one from another speaker

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"loss.form is {self.form!r}: choose one of {', '.join(FORMS)}")
        for name in ("same_speaker", "cross_speaker"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"loss.{name} is {getattr(self, name)}: give a margin of at least 0 and below 1")

    def __call__(self, likely: torch.Tensor, match: torch.Tensor, other_speaker: torch.Tensor) -> torch.Tensor:
        """Mean over the batch, float32.

        likely: (b,) p_sync; match: (b,) 1 = of one moment; other_speaker: (b,) 1 = the sound is another speaker's
        """
        with torch.autocast(likely.device.type, enabled=False):
            return self.each(likely.float(), match.float(), other_speaker.float()).mean()

    def each(self, likely: torch.Tensor, match: torch.Tensor, other_speaker: torch.Tensor) -> torch.Tensor:
        """(b,) the loss of every pair; as `__call__`, float32."""
        margin = self.same_speaker + (self.cross_speaker - self.same_speaker) * other_speaker
        believed = {"printed": likely - margin, "strict": likely + margin, "bce": likely}[self.form]
        yes = likely.clamp(EDGE, 1 - EDGE).log()
        no = (1 - believed.relu().clamp(max=1 - EDGE)).log()  # relu, which has no gradient at 0 either
        return -(match * yes + (1 - match) * no)

    def of_a_constant(self, cross_share: float) -> float:
        """The least mean loss of answering the same to every pair, half of them negatives: what is learned from counts
        below it. ln 2 without margins.

        cross_share: of the negatives, from another speaker
        """
        answers = torch.linspace(0, 1, TRIED + 2)[1:-1]
        zeros, ones = torch.zeros(TRIED), torch.ones(TRIED)
        negatives = (1 - cross_share) * self.each(answers, zeros, zeros) + cross_share * self.each(answers, zeros, ones)
        return float((self.each(answers, ones, zeros) + negatives).min() / 2)


def unisync_pixel_loss(critic: UniSync, pixel_values: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    """How little a critic of RGB and mel believes decoded frames: -log p, with gradients to the frames; (b,) float32.

    The mean over windows of 5 frames that follow one another from the first frame on; what is left over is not looked
    at. Their sound begins every 16 columns exactly.

    critic: frozen; pixel_values: (b, f, 3, h, w) whole crops of any size, about [-1, 1], f at least 5; mel: (b, 1, 80,
    at least 16 f / 5) from `windows.syncnet_start` of the first frame on
    """
    assert not any(parameter.requires_grad for parameter in critic.parameters()), "the critic is not frozen"
    windows = pixel_values.shape[1] // FRAMES
    shown = rearrange(pixel_values[:, : windows * FRAMES], "b (n f) c h w -> (b n) f c h w", f=FRAMES)
    heard = rearrange(mel[..., : windows * MEL_COLUMNS], "b c m (n t) -> (b n) c m t", t=MEL_COLUMNS)
    likely = critic(lower_half(shown, VisualInput(frames=FRAMES, size=critic.visual.size)), heard)
    with torch.autocast(likely.device.type, enabled=False):
        return rearrange(-likely.float().clamp(EDGE, 1 - EDGE).log(), "(b n) -> b n", n=windows).mean(dim=1)
