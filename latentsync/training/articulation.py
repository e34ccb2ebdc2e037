"""Teach the mel encoder what lips do before the UNet sees it: regress the shape of the lips from the sound alone.

A regressor learns this in minutes, where the denoising loss, which sees the audio through noise, needs hours. The
head is thrown away afterwards; the encoder goes on learning with the UNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from omegaconf import DictConfig

from latentsync.audio.mel_encoder import MARGIN, MelEncoder
from latentsync.audio.windows import centre_step
from latentsync.data.augmentation import Voice
from latentsync.data.crops import ClipCrops
from latentsync.data.sampling import clip_weights, sample_generator
from latentsync.data.sound import ClipSound
from latentsync.faces.lips import lip_shape
from latentsync.hub import Settings, load_components, save_folder
from latentsync.training.loop.runner import Report
from latentsync.training.loop.task import Task
from latentsync.training.unet.data import read_clips

SEGMENT_ROWS = 64  # rows of one clip in a batch: 1.28 s, 32 frames at 25 fps


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
    shapes = np.stack([lip_shape(points).ravel() for points in np.asarray(clip.landmarks)])
    return (shapes - np.nanmean(shapes, axis=0)).astype(np.float32)


class LipSamples:
    """(mel around a piece of a clip, lip shapes of its frames); a sample is a function of (seed, index)."""

    def __init__(self, clips: Sequence[ClipCrops], shares: dict[str, float], seed: int) -> None:
        """shares: see `sampling.clip_weights`."""
        self.clips, self.seed = clips, seed
        self.weights = clip_weights(clips, shares)
        self.targets = [clip_targets(clip) for clip in clips]
        self.scale = float(np.nanstd(np.concatenate(self.targets)))

    @cached_property
    def sounds(self) -> list[ClipSound]:
        """Of every clip."""
        return [ClipSound(clip.waveform) for clip in self.clips]

    def sample(self, index: int) -> dict[str, torch.Tensor]:
        """mel (80, columns) in another voice; lips (SEGMENT_ROWS, outputs), NaN at rows that no frame falls on."""
        rng = sample_generator(self.seed, index)
        number = int(rng.choice(len(self.clips), p=self.weights))
        rows, targets = _rows(self.clips[number].times), self.targets[number]
        first = int(rng.integers(0, max(1, rows[-1] - SEGMENT_ROWS)))
        lips = np.full((SEGMENT_ROWS, targets.shape[1]), np.nan, np.float32)
        inside = (rows >= first) & (rows < first + SEGMENT_ROWS)
        lips[rows[inside] - first] = targets[inside] / self.scale
        mel = self.sounds[number].columns(first, SEGMENT_ROWS, MARGIN, Voice.random(rng))
        return {"mel": mel, "lips": torch.from_numpy(lips)}


def _rows(times: np.ndarray) -> np.ndarray:
    """times: (f,) seconds -> (f,) the row of each frame."""
    return np.array([centre_step(time) for time in times])


def held_out_correlation(readout: torch.nn.Module, clips: Sequence[ClipCrops]) -> float:
    """Mean over clips of the correlation between predicted and true lip shape along its direction of most variance.

    readout: mel -> lip shapes in any unit, as `LipReadout`
    """
    device, correlations = next(readout.parameters()).device, []
    for clip in clips:
        targets, rows = clip_targets(clip)[clip.usable], _rows(clip.times[clip.usable])
        mel = ClipSound(clip.waveform).columns(0, int(rows[-1]) + 1, MARGIN)
        with torch.no_grad():
            predicted = readout(mel[None].to(device))[0].float().cpu().numpy()[rows]
        direction = np.linalg.svd(targets, full_matrices=False)[2][0]
        correlations.append(np.corrcoef(predicted @ direction, targets @ direction)[0, 1])
    return float(np.mean(correlations))


class ArticulationTask:
    """What is trained, on what, and what tells how well; see `loop.task.Task`."""

    def __init__(
        self, readout: LipReadout, samples: LipSamples, held_out: Sequence[ClipCrops], resolution: int
    ) -> None:
        """resolution: px, of the crops of the model that the encoder is for."""
        self.module: torch.nn.Module = readout
        self.samples, self.held_out, self.resolution = samples, held_out, resolution

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """mel (b, 80, columns), lips (b, SEGMENT_ROWS, outputs)."""
        samples = [self.samples.sample(index) for index in indices]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def losses(self, module: torch.nn.Module, batch: Mapping[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        """Mean squared error of the lips, of each sample over the rows that have some."""
        lips = batch["lips"]
        seen = ~lips.isnan()
        squared = (module(batch["mel"]) - lips.nan_to_num()).square() * seen
        return {"lips": (squared.sum(dim=(1, 2)) / seen.sum(dim=(1, 2)).clamp(min=1)).mean()}

    def validate(self, module: torch.nn.Module) -> Report:
        """How well held-out lips are followed."""
        return Report({"correlation": held_out_correlation(module, self.held_out)} if self.held_out else {})

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """The encoder alone, in a folder that `hub.load_audio_encoder` loads."""
        assert isinstance(module, LipReadout)
        save_folder(folder, audio_encoder=module.encoder, settings=Settings(resolution=self.resolution))


def build(config: DictConfig) -> tuple[Task, str]:
    """The task of a configuration, as `embedded` completes it, and the hash of its data.

    InputError for data that cannot be read.
    """
    training, held_out, data_hash = read_clips(config)
    samples = LipSamples(training, dict(config.data.shares or {}), config.run.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        encoder = MelEncoder(**config.mel)
        readout = LipReadout(encoder, samples.targets[0].shape[1])
    if config.start_from:
        start = load_components(config.start_from).audio_encoder
        assert isinstance(start, MelEncoder)
        encoder.load_state_dict(start.state_dict())
    return ArticulationTask(readout, samples, held_out, config.resolution), data_hash
