"""Pretrain a small VideoMAE on our own clips, for TREPA where no published one can be had: the runner's task.

VideoMAE, arXiv 2203.12602: 90 % of the tokens are hidden, the same places in every frame (tube masking), and their
normalised pixels are predicted. Inputs lie in [0, 1] and are not normalised by ImageNet's colours, as TREPA feeds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf

from latentsync.data.augmentation import Look
from latentsync.data.crops import ClipCrops
from latentsync.data.pairs import cut_clips
from latentsync.data.sampling import clip_weights, sample_generator
from latentsync.data.windows import window_starts
from latentsync.models.videomae import small_config
from latentsync.training.loop.runner import BadSample, Report
from latentsync.training.loop.runtime import save_module
from latentsync.training.loop.task import Task
from latentsync.training.sync.task import kept
from latentsync.training.unet.data import read_clips
from latentsync.types import InputError

if TYPE_CHECKING:
    from transformers import VideoMAEForPreTraining

VALIDATION_SEED = 20_241_211
VALIDATION_WINDOWS = 16


class _Cut:
    """Clips, and where windows of them begin; those that are too short are left out with a warning."""

    def __init__(self, clips: Sequence[ClipCrops], frames: int) -> None:
        """InputError when none is long enough."""
        found = kept(clips, lambda some: cut_clips(some, lambda clip: (clip, window_starts(clip, frames))))
        self.clips, self.starts = [clip for clip, _ in found], [starts for _, starts in found]
        self.weights = clip_weights(self.clips, {})


class MaskedVideoTask:
    """What is trained, on what, and what tells how well; see `loop.task.Task`."""

    def __init__(
        self,
        network: VideoMAEForPreTraining,
        training: Sequence[ClipCrops],
        held_out: Sequence[ClipCrops],
        *,
        seed: int,
        hidden: float,
        changed_looks: float,
    ) -> None:
        """hidden: share of the places that are hidden; changed_looks: share of the windows with other colours.

        InputError when no clip has two windows.
        """
        self.module: torch.nn.Module = network
        self.network, self.seed, self.hidden, self.changed_looks = network, seed, hidden, changed_looks
        frames = network.config.num_frames
        self.training, self.held_out = _Cut(training, frames), _Cut(held_out, frames) if held_out else None

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """videos (b, 16, 3, s, s) in [0, 1]; hidden (b, tokens) bool."""
        return self._batch(self.training, self.seed, indices)

    def _batch(self, cut: _Cut, seed: int, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        videos, masks = zip(*(self._sample(cut, sample_generator(seed, index)) for index in indices), strict=True)
        return {"videos": torch.stack(videos), "hidden": torch.stack(masks)}

    def _sample(self, cut: _Cut, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.network.config
        number = int(rng.choice(len(cut.clips), p=cut.weights))
        clip, start = cut.clips[number], int(rng.choice(cut.starts[number]))
        try:
            crops = np.asarray(clip.crops[start : start + config.num_frames])
        except (OSError, ValueError) as error:
            raise BadSample(clip.name, str(error)) from error
        if rng.random() < self.changed_looks:
            crops = Look.random(rng, crops.shape[1])(crops)
        frames = torch.from_numpy(np.ascontiguousarray(np.moveaxis(crops, -1, 1))).float() / 255
        side: Any = config.image_size
        videos = F.interpolate(frames, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        places = (side // config.patch_size) ** 2
        covered = np.zeros(places, bool)
        covered[rng.permutation(places)[: round(self.hidden * places)]] = True
        return videos, torch.from_numpy(np.tile(covered, config.num_frames // config.tubelet_size))

    def losses(self, module: torch.nn.Module, batch: Mapping[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        """Mean squared error of the hidden patches, each colour of each normalised to its own mean and spread.

        transformers takes its input for normalised by ImageNet's colours and undoes that; the patches' own
        normalisation takes out whatever that shifts and scales.
        """
        return {"reconstruction": module(batch["videos"], bool_masked_pos=batch["hidden"]).loss}

    def validate(self, module: torch.nn.Module) -> Report:
        """The same loss on held-out windows; 1 is what the mean of a patch would get."""
        if self.held_out is None:
            return Report({})
        batch = self._batch(self.held_out, VALIDATION_SEED, range(VALIDATION_WINDOWS))
        device = next(module.parameters()).device
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        return Report({"reconstruction": float(self.losses(module, moved, 0)["reconstruction"])})

    def export(self, module: torch.nn.Module, folder: Path) -> None:
        """transformers' folder, which `hub.videomae.load_video_features` loads."""
        save_module(module, folder)  # type: ignore[arg-type]


def build(config: DictConfig) -> tuple[Task, str]:
    """The task of a configuration and the hash of its data. InputError for data or shapes that cannot be."""
    training, held_out, data_hash = read_clips(config)
    return make_task(config, training, held_out), data_hash


def make_task(config: DictConfig, training: Sequence[ClipCrops], held_out: Sequence[ClipCrops]) -> MaskedVideoTask:
    """The task on clips in memory. InputError as `build`."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    shape: Any = OmegaConf.to_container(config.network, resolve=True)
    if shape["size"] % shape["patch"]:
        raise InputError(f"network.size is {shape['size']}, no multiple of network.patch={shape['patch']}: change one")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        network = VideoMAEForPreTraining(VideoMAEConfig(**small_config(**shape)))
    return MaskedVideoTask(
        network,
        training,
        held_out,
        seed=config.run.seed,
        hidden=config.hidden,
        changed_looks=config.changed_looks,
    )
