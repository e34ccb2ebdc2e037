"""Teach the mel encoder what lips do before the UNet sees it: regress the shape of the lips from the sound alone.

A regressor learns this in minutes, where the denoising loss, which sees the audio through noise, needs hours. The
head is thrown away afterwards; the encoder goes on learning with the UNet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn

from latentsync.audio.mel_encoder import MARGIN, MelEncoder
from latentsync.audio.windows import centre_step
from latentsync.data.augmentation import Voice
from latentsync.data.crops import ClipCrops
from latentsync.data.sampling import clip_weights, sample_generator
from latentsync.data.sound import ClipSound
from latentsync.faces.lips import lip_shape
from latentsync.training.runtime import cosine_rate

SEGMENT_ROWS = 64  # rows of one clip in a batch: 1.28 s, 32 frames at 25 fps


@dataclass(frozen=True)
class ArticulationRecipe:
    """What a run does; `batch` counts clips."""

    steps: int = 1500
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0


class LipReadout(nn.Module):
    """Rows of the encoder's output -> lip shape; linear, so that the knowledge sits in the tokens."""

    def __init__(self, encoder: MelEncoder, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(encoder.levels * encoder.width, outputs)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """mel: (b, 80, 2 * rows + 4 * MARGIN) columns -> (b, rows, outputs)."""
        return self.linear(self.encoder.rows_with_context(mel).flatten(2))


def clip_targets(clip: ClipCrops) -> np.ndarray:
    """(f, points * 2) float32: lip points less the clip's own mean shape, so that identity drops out."""
    shapes = np.stack([lip_shape(points).ravel() for points in clip.landmarks])
    return (shapes - np.nanmean(shapes, axis=0)).astype(np.float32)


class LipSamples:
    """Batches of (mel around a frame, lip shape of that frame); a batch is a function of (seed, step)."""

    def __init__(self, clips: list[ClipCrops], shares: dict[str, float], seed: int) -> None:
        self.clips, self.seed = clips, seed
        self.weights = clip_weights(clips, shares)
        self.targets = [clip_targets(clip) for clip in clips]
        self.sounds = [ClipSound(clip.waveform) for clip in clips]
        self.scale = float(np.nanstd(np.concatenate(self.targets)))

    def batch(self, step: int, clips: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(mel (clips, 80, columns), targets (clips, SEGMENT_ROWS, outputs), NaN at rows that no frame falls on)."""
        rng = sample_generator(self.seed, step)
        mels, targets = [], []
        for c in rng.choice(len(self.clips), clips, p=self.weights):
            rows = np.array([centre_step(time) for time in self.clips[c].times])
            first = int(rng.integers(0, max(1, rows[-1] - SEGMENT_ROWS)))
            mels.append(self.sounds[c].columns(first, SEGMENT_ROWS, MARGIN, Voice.random(rng)))
            target = np.full((SEGMENT_ROWS, self.targets[c].shape[1]), np.nan, np.float32)
            inside = (rows >= first) & (rows < first + SEGMENT_ROWS)
            target[rows[inside] - first] = self.targets[c][inside] / self.scale
            targets.append(target)
        return torch.stack(mels), torch.from_numpy(np.stack(targets))


def held_out_correlation(readout: LipReadout, clips: list[ClipCrops], scale: float) -> float:
    """Mean over clips of the correlation between predicted and true lip shape along its direction of most variance."""
    correlations = []
    for clip in clips:
        targets, sound = clip_targets(clip)[clip.usable], ClipSound(clip.waveform)
        rows = [centre_step(time) for time in clip.times[clip.usable]]
        with torch.no_grad():
            mel = sound.columns(0, rows[-1] + 1, MARGIN)
            predicted = readout(mel[None])[0, rows].numpy() * scale
        direction = np.linalg.svd(targets, full_matrices=False)[2][0]
        correlations.append(np.corrcoef(predicted @ direction, targets @ direction)[0, 1])
    return float(np.mean(correlations))


def train(
    recipe: ArticulationRecipe,
    encoder: MelEncoder,
    clips: list[ClipCrops],
    held_out: list[ClipCrops],
    shares: dict[str, float],
    log: Callable[[str], None] = print,
) -> MelEncoder:
    """Train `encoder` in place and return it; logs the correlation on `held_out` clips every 250 steps."""
    torch.manual_seed(recipe.seed)
    samples = LipSamples(clips, shares, recipe.seed)
    readout = LipReadout(encoder, samples.targets[0].shape[1])
    optimizer = torch.optim.AdamW(readout.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine_rate(recipe.steps, warmup=50))
    losses: list[float] = []
    for step in range(recipe.steps):
        mel, target = samples.batch(step, recipe.batch)
        seen = ~target.isnan()
        loss = (readout(mel)[seen] - target[seen]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
            correlation = held_out_correlation(readout, held_out, samples.scale)
            recent = np.mean(losses[-250:])
            log(f"articulation step {step + 1} loss {recent:.4f} held-out correlation {correlation:.3f}")
    return encoder
