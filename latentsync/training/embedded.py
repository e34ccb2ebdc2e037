"""The recipe of the embedded default: prepare, autoencoder, mel encoder, UNet in two stages, checkpoint.

Every stage leaves its result in the run folder and is passed over when it is there; the UNet's are runs of
`training.unet` with `configs/unet/embedded.yaml` and `embedded_stage2.yaml`, which also resume from their last saved
step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from omegaconf import DictConfig, OmegaConf

from latentsync.audio.mel_encoder import MelEncoder
from latentsync.config import save_config
from latentsync.data.crops import ClipCrops
from latentsync.data.preparation.continuous import prepare_clip
from latentsync.data.preparation.sources import Shard, find_sources
from latentsync.data.sampling import pixels
from latentsync.data.synthetic import SyntheticSpeaker, synthesize_speech, write_clip
from latentsync.hub import Settings, load_components, save_folder
from latentsync.training import articulation, autoencoder, unet_build
from latentsync.training.recipe import train
from latentsync.training.runner import EXPORT
from latentsync.training.unet_data import read_clips
from latentsync.types import InputError

VALIDATION_FRAMES = 4  # of every held-out clip, for the autoencoder's figures
FILE_TYPE = torch.float16  # of the checkpoint's weights
Log = Callable[[str], None]


class EmbeddedRecipe:
    """The stages, over one merged configuration."""

    def __init__(self, config: DictConfig, log: Log = print) -> None:
        self.config, self.log = config, log
        self.folder = Path(config.run_folder)
        self.crops, self.vae, self.mel = (self.folder / name for name in ("crops", "vae", "mel_encoder"))
        self.start = load_components(config.start_from) if config.start_from else None
        self.stage1 = self._stage1()
        self.stage2 = self._stage2()

    def run(self) -> Path:
        """Every stage in order; returns the exported checkpoint's folder."""
        save_config(self.config, self.folder / "config.yaml")
        self.prepare()
        self.autoencoder()
        self.mel_encoder()
        for stage in (self.stage1, self.stage2):
            train(stage, unet_build.build)
        return self.export()

    def _stage1(self) -> DictConfig:
        """Stage 1 on what the stages before it make."""
        config = self.config
        data = {
            "crops": str(self.crops),
            "leave_out": config.leave_out,
            "validation": config.validate_on,
            "cache_folder": str(self.folder / "cache"),
        }
        given = {"start_from": config.start_from, "vae": str(self.vae), "audio_encoder": {"load": str(self.mel)}}
        return _changed(config.stage1, {"run_folder": str(self.folder / "stage1"), "data": data, **given})

    def _stage2(self) -> DictConfig:
        """Stage 2 on the same clips from where stage 1 ends, a network of the same shape but for its temporal part."""
        first, own = self.stage1, self.config.stage2
        shared = {
            "resolution": first.resolution,
            "data": first.data,
            "audio_encoder": {"mel": first.audio_encoder.mel},
            "unet": {**first.unet, "temporal": own.unet.temporal},
            "run": {"seed": first.run.seed},
        }
        start = str(Path(first.run_folder) / EXPORT)
        return _changed(own, {"run_folder": str(self.folder / "stage2"), "start_from": start, **shared})

    def prepare(self) -> None:
        """Crops of every video, real and drawn; a clip without sound or face is named and left out."""
        for video in [*self._videos(), *self._synthetic()]:
            try:
                prepare_clip(video, self.crops, self.stage1.resolution)
            except InputError as error:
                self.log(f"left out: {error}")

    def _videos(self) -> Iterable[Path]:
        for source in find_sources(self.config.videos):
            if isinstance(source, Shard):
                raise InputError(f"'{source.path}' is a shard: unpack it, the embedded recipe reads video files")
            yield source.path

    def _synthetic(self) -> Iterable[Path]:
        wanted = self.config.synthetic
        for identity in range(wanted.identities):
            paths = [self.folder / "synthetic" / f"synth_{identity:03}_{n}.mp4" for n in range(wanted.clips_each)]
            if not all(path.exists() for path in paths):
                paths[0].parent.mkdir(parents=True, exist_ok=True)
                speaker = SyntheticSpeaker(wanted.first_seed + identity, wanted.size)
                for take, path in enumerate(paths):
                    self._shoot(speaker, wanted.first_seed + 10 * identity + take, path)
            yield from paths

    def _shoot(self, speaker: SyntheticSpeaker, seed: int, path: Path) -> None:
        speech = synthesize_speech(seed, seconds=self.config.synthetic.seconds)
        write_clip(path, speaker.frames(speech, seed), waveform=speech.waveform)

    def clips(self) -> tuple[list[ClipCrops], list[ClipCrops]]:
        """Those to train on and those held out, as the UNet gets them."""
        training, held_out, _ = read_clips(self.stage1)
        return training, held_out

    @property
    def _shares(self) -> dict[str, float]:
        return dict(self.stage1.data.shares or {})

    def autoencoder(self) -> None:
        """Train it, unless that has been done."""
        done = self.vae / "done"
        if done.exists():
            return
        training, held_out = self.clips()
        options, seed = _plain(self.config.autoencoder), self.stage1.run.seed
        recipe = autoencoder.AutoencoderRecipe(self.stage1.resolution, seed=seed, **options)
        seen = [_spread(clip.crops, VALIDATION_FRAMES) for clip in held_out]
        start = self.start.vae if self.start else None
        assert start is None or isinstance(start, AutoencoderKL)
        images = {"held out": pixels(np.concatenate(seen))} if seen else {}
        autoencoder.train(recipe, training, images, self._shares, self.vae, self.log, start)
        done.touch()

    def mel_encoder(self) -> None:
        """Train it on the shape of the lips, unless that has been done."""
        if self.mel.exists():
            return
        seed = self.stage1.run.seed
        torch.manual_seed(seed)
        encoder = MelEncoder(**self.stage1.audio_encoder.mel)
        if self.start:
            assert isinstance(self.start.audio_encoder, MelEncoder)
            encoder.load_state_dict(self.start.audio_encoder.state_dict())
        recipe = articulation.ArticulationRecipe(seed=seed, **_plain(self.config.articulation))
        articulation.train(recipe, encoder, *self.clips(), self._shares, self.log)
        save_folder(self.mel, audio_encoder=encoder, settings=Settings(resolution=self.stage1.resolution))

    def export(self) -> Path:
        """Write the checkpoint folder in half precision; the card says what can be read off the run."""
        made = load_components(Path(self.stage2.run_folder) / EXPORT)
        return save_folder(
            Path(self.config.checkpoint),
            unet=made.unet,
            vae=made.vae,
            audio_encoder=made.audio_encoder,
            settings=made.settings,
            card=self.card(),
            dtype=FILE_TYPE,
        )

    def card(self) -> str:
        """The model card's first version: sources and recipe; measured figures are added where they are measured."""
        names = ", ".join(sorted(clip.name for clip in self.clips()[0]))
        return f"# Embedded checkpoint\n\nTrained on: {names}\n\n```yaml\n{OmegaConf.to_yaml(self.config)}```\n"


def _spread(crops: np.ndarray, count: int) -> np.ndarray:
    """`count` of the frames, evenly spread."""
    return crops[np.linspace(0, len(crops) - 1, count).astype(int)]


def _changed(config: DictConfig, changes: dict[str, Any]) -> DictConfig:
    """A copy of a configuration with other values in places."""
    return OmegaConf.merge(config, changes)  # type: ignore[return-value]


def _plain(group: DictConfig) -> dict[str, Any]:
    """A group of options as plain keyword arguments."""
    return {str(name): value for name, value in OmegaConf.to_container(group, resolve=True).items()}  # type: ignore[union-attr]
