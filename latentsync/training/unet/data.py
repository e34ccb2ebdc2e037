"""The clips that a UNet is trained on: read, encoded once, cut into windows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from latentsync.audio.features import ArrayWaveform, AudioEncoder
from latentsync.data.augmentation import Look
from latentsync.data.cached import FeatureCache, LatentCache
from latentsync.data.crops import ClipCrops, load_clip, load_folder
from latentsync.data.manifest import AUDIO, features_folder, read_manifest
from latentsync.data.sampling import group_of, other_looks
from latentsync.data.windows import MelSound, Sound, TokenSound, WindowClip, WindowRecipe, Windows, window_starts
from latentsync.models.autoencoder import Autoencoder
from latentsync.training.loop.records import clips_hash
from latentsync.training.loop.runtime import warn_user
from latentsync.types import AUDIO_SAMPLE_RATE, InputError

NAMED = 3  # skipped clips that a warning names
OTHERS = "others"  # in `data.looks`: clips of every group that it does not name


def read_clips(config: DictConfig) -> tuple[list[ClipCrops], list[ClipCrops], str]:
    """Clips to train on, clips held out and the hash of both: of a manifest's splits, or of a folder of prepared clips.

    Of each its first `data.most_frames` frames. InputError when neither is named, or the folder is empty.
    """
    training, held_out, data_hash = _whole_clips(config.data)
    most = config.data.most_frames
    return [_capped(clip, most) for clip in training], [_capped(clip, most) for clip in held_out], data_hash


def _whole_clips(data: DictConfig) -> tuple[list[ClipCrops], list[ClipCrops], str]:
    if data.manifest:
        manifest = read_manifest(Path(data.manifest))
        return manifest.clips("train"), manifest.clips("validation"), manifest.digest
    if not data.crops:
        raise InputError(
            "no data: give data.manifest=FILE, which train/prepare_data.py wrote, or data.crops=FOLDER of prepared "
            "clips"
        )
    unseen = list(data.validation)
    training = load_folder(Path(data.crops), leave_out=frozenset([*data.leave_out, *unseen]))
    held_out = [load_clip(Path(data.crops), name) for name in unseen]
    return training, held_out, clips_hash([*training, *held_out])


def cache_folder(config: DictConfig) -> Path:
    """Where what is computed of the clips once is kept: beside the manifest, where other runs and `latentsync prepare`
    put it too, else in the run's folder."""
    if config.data.cache_folder:
        return Path(config.data.cache_folder)
    if config.data.manifest:
        return features_folder(config.data.manifest)
    return Path(config.run_folder) / "cache"


def _capped(clip: ClipCrops, frames: int | None) -> ClipCrops:
    """The clip's first `frames` frames; those of a longer clip are held in memory."""
    if frames is None or len(clip) <= frames:
        return clip
    return replace(clip, crops=clip.crops[:frames], landmarks=clip.landmarks[:frames], times=clip.times[:frames])


def looks_of(clip: ClipCrops, looks: int | Mapping[str, int] | None) -> int:
    """With how many other looks a clip is seen: one number for all, or by group of clips and for all `others`."""
    if isinstance(looks, Mapping):
        return looks.get(group_of(clip.name), looks.get(OTHERS, 0))
    return looks or 0


@dataclass(frozen=True)
class Cutter:
    """Makes windows of clips, through the caches of one run."""

    config: DictConfig
    vae: Autoencoder
    encoder: AudioEncoder
    mask: torch.Tensor  # (r, r), 1 = regenerate
    learns: bool  # the encoder is trained along, so that its features cannot be kept
    latent_shape: tuple[int, int, int]
    timesteps: int  # of the schedule
    listens: bool  # a critic of lip sync wants its mel

    def windows(
        self,
        clips: Sequence[ClipCrops],
        recipe: WindowRecipe,
        seed: int,
        decoded: int,
        looks: int | Mapping[str, int] | None,
    ) -> Windows:
        """All windows of `clips`, each clip also seen with other looks, see `looks_of`.

        decoded: frames of a window whose pixels are compared. InputError when no clip can be used; warns of those that
        are left out.
        """
        caches, cut, skipped = self._caches(), {}, []
        for number in _in_turn(len(clips)):
            try:
                clip = clips[number]
                cut[number] = self._cut(clip, recipe, looks_of(clip, looks), caches)
            except InputError as error:
                skipped.append(str(error))
        if not cut:
            raise InputError(f"no clip can be trained on: {'; '.join(skipped[:NAMED]) or 'there is none'}")
        if skipped:
            warn_user(f"{len(skipped)} of {len(clips)} clips are left out: {'; '.join(skipped[:NAMED])}")
        return Windows(
            [part for number in sorted(cut) for part in cut[number]],
            recipe,
            seed,
            latent_shape=self.latent_shape,
            timesteps=self.timesteps,
            decoded_frames=decoded,
            listens=self.listens,
            shares=dict(self.config.data.shares or {}),
        )

    def _cut(self, clip: ClipCrops, recipe: WindowRecipe, looks: int, caches: _Caches) -> list[WindowClip]:
        if clip.crops.shape[1] != self.config.resolution:
            raise InputError(
                f"{clip.name} has crops of {clip.crops.shape[1]} px where resolution is {self.config.resolution}: "
                "prepare it at that size, or change resolution"
            )
        if not len(clip.waveform):
            raise InputError(f"{clip.name} has no sound: leave it out")
        starts, sound = window_starts(clip, recipe.frames), self._sound(clip, recipe, caches)
        others = other_looks(clip, looks, self.config.run.seed)
        return [_seen(clip, starts, sound, look, caches.latents) for look in (None, *others)]

    def _sound(self, clip: ClipCrops, recipe: WindowRecipe, caches: _Caches) -> Sound:
        if caches.features is None:
            return MelSound(clip.waveform, recipe.changed_voices)
        return TokenSound(caches.features.stored(clip.waveform), caches.around)

    def _caches(self) -> _Caches:
        folder = cache_folder(self.config)
        latents = None
        if self.config.data.cache_latents:
            latents = LatentCache(self.vae, self.mask, folder / "latents")
        features = None if self.learns else FeatureCache(self.encoder, folder / AUDIO.name)
        return _Caches(latents, features, self.encoder.stream(ArrayWaveform(np.zeros(AUDIO_SAMPLE_RATE))).window)


@dataclass(frozen=True)
class _Caches:
    latents: LatentCache | None
    features: FeatureCache | None
    around: tuple[int, int]  # rows of features that a frame takes, before and after its own


def _seen(
    clip: ClipCrops, starts: np.ndarray, sound: Sound, look: Look | None, cache: LatentCache | None
) -> WindowClip:
    if cache is None:
        return WindowClip(clip, starts, sound, look)
    return WindowClip(clip, starts, sound, look, *cache(clip, look))


def _in_turn(count: int) -> list[int]:
    """Every number; each process of a distributed run begins elsewhere, so that together they fill a cache once."""
    rank, world = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    first = rank * count // world
    return [*range(first, count), *range(first)]
