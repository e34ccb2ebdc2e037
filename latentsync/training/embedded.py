"""The recipe of the embedded default: prepare, autoencoder, mel encoder, latents, stage 1, stage 2, export.

Every stage leaves its result in the run folder and is passed over when it is there; the two long ones also resume
from their last saved step.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file

from latentsync.audio.mel_encoder import MelEncoder
from latentsync.config import save_config
from latentsync.data.augmentation import Look
from latentsync.data.crops import ClipCrops, load_clip, load_folder
from latentsync.data.latents import LatentClip, WindowSampler, encode_clip
from latentsync.data.preparation.sources import VIDEO_SUFFIXES
from latentsync.data.prepare import prepare_clip
from latentsync.data.sampling import group_of, pixels, sample_generator
from latentsync.data.sound import ClipSound
from latentsync.data.synthetic import SyntheticSpeaker, synthesize_speech, write_clip
from latentsync.diffusion.conditioning import mask_to_latents
from latentsync.diffusion.schedulers import PUBLISHED_CONFIG
from latentsync.faces.masks import inpaint_mask
from latentsync.hub import Settings, load_components, save_folder
from latentsync.models import autoencoder as autoencoders
from latentsync.models.unet import LatentSyncUNet
from latentsync.training import articulation, autoencoder
from latentsync.training.denoising import Denoiser, DenoisingRecipe, DenoisingRun
from latentsync.training.parts import load_known
from latentsync.types import InputError

SCHEDULE = {**PUBLISHED_CONFIG, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
VALIDATION_WINDOWS = 24
VALIDATION_FRAMES = 4  # of every held-out clip, for the autoencoder's figures
Log = Callable[[str], None]


class EmbeddedRecipe:
    """The stages, over one merged configuration."""

    def __init__(self, config: DictConfig, log: Log = print) -> None:
        self.config, self.log = config, log
        self.folder = Path(config.run_folder)
        self.crops = self.folder / "crops"
        self.mask = torch.from_numpy(inpaint_mask(config.resolution).copy())
        self.shares = dict(config.shares)
        self.start = load_components(config.start_from) if config.start_from else None

    def run(self) -> Path:
        """Every stage in order; returns the exported checkpoint's folder."""
        save_config(self.config, self.folder / "config.yaml")
        self.prepare()
        vae = self.autoencoder()
        encoder = self.mel_encoder()
        clips, held_out = self.latents(vae)
        first = self.denoiser(self.config.stage1, encoder)
        self.denoise("stage1", first, clips, held_out)
        second = self.denoiser(self.config.stage2, encoder)
        load_known(second, load_file(self.averaged("stage1")))
        self.denoise("stage2", second, clips, held_out)
        return self.export(vae, second)

    def prepare(self) -> None:
        """Crops of every video, real and drawn; a clip without sound or face is named and left out."""
        for video in [*self._videos(), *self._synthetic()]:
            try:
                prepare_clip(video, self.crops, self.config.resolution)
            except InputError as error:
                self.log(f"left out: {error}")

    def _videos(self) -> Iterable[Path]:
        for name in self.config.videos:
            path = Path(name)
            found = sorted(path.iterdir()) if path.is_dir() else [path]
            yield from (video for video in found if video.suffix.lower() in VIDEO_SUFFIXES)

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

    def _training_clips(self) -> list[ClipCrops]:
        clips = load_folder(self.crops, leave_out=frozenset(self.config.leave_out))
        return [self._capped(clip) for clip in clips if clip.usable.all()]

    def _capped(self, clip: ClipCrops) -> ClipCrops:
        end = self.config.most_frames
        return replace(clip, crops=clip.crops[:end], landmarks=clip.landmarks[:end], times=clip.times[:end])

    def _held_out_clips(self) -> list[ClipCrops]:
        strangers = set(self.config.validate_on) - set(self.config.leave_out)
        if strangers:
            raise InputError(f"validate_on names clips that are not in leave_out: {', '.join(sorted(strangers))}")
        return [self._capped(load_clip(self.crops, name)) for name in self.config.validate_on]

    def autoencoder(self) -> AutoencoderKL:
        """Train or load it."""
        folder, done = self.folder / "vae", self.folder / "vae" / "done"
        if not done.exists():
            options = _options(self.config.autoencoder)
            recipe = autoencoder.AutoencoderRecipe(self.config.resolution, seed=self.config.seed, **options)
            seen = [_spread(clip.crops, VALIDATION_FRAMES) for clip in self._held_out_clips()]
            held_out = {"held out": pixels(np.concatenate(seen))} if seen else {}
            start = self.start.vae if self.start else None
            assert start is None or isinstance(start, AutoencoderKL)
            autoencoder.train(recipe, self._training_clips(), held_out, self.shares, folder, self.log, start)
            done.touch()
        return AutoencoderKL.from_pretrained(folder).eval()

    def mel_encoder(self) -> MelEncoder:
        """Train it on the shape of the lips, or load it."""
        torch.manual_seed(self.config.seed)
        encoder, path = MelEncoder(**self.config.mel_encoder), self.folder / "mel_encoder.safetensors"
        if path.exists():
            encoder.load_state_dict(load_file(path))
            return encoder
        if self.start:
            assert isinstance(self.start.audio_encoder, MelEncoder)
            encoder.load_state_dict(self.start.audio_encoder.state_dict())
        recipe = articulation.ArticulationRecipe(seed=self.config.seed, **self.config.articulation)
        articulation.train(recipe, encoder, self._training_clips(), self._held_out_clips(), self.shares, self.log)
        save_file(encoder.state_dict(), path)
        return encoder

    def latents(self, vae: AutoencoderKL) -> tuple[list[LatentClip], list[LatentClip]]:
        """Latents of the clips that are trained on and of those that are held out."""
        training = [
            self._latents(clip, vae, n) for clip in self._training_clips() for n in range(1 + self._looks(clip))
        ]
        return training, [self._latents(clip, vae) for clip in self._held_out_clips()]

    def _looks(self, clip: ClipCrops) -> int:
        """With how many other looks a clip is seen, beside its own."""
        return self.config.looks.get(group_of(clip.name), self.config.looks.others)

    def _latents(self, clip: ClipCrops, vae: AutoencoderKL, number: int = 0) -> LatentClip:
        """`number` 0: as it is; others: with another look, the same at every call."""
        name = f"{clip.name}~{number}" if number else clip.name
        path = self.folder / "latents" / f"{name}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if number:
                look = Look.random(
                    sample_generator(self.config.seed, zlib.crc32(name.encode())), self.config.resolution
                )
                clip = replace(clip, crops=look(clip.crops))
            made = encode_clip(clip, vae, self.mask)
            save_file({"latents": made.latents, "masked": made.masked, "rows": torch.from_numpy(made.rows)}, path)
        tensors = load_file(path)
        sound = ClipSound(clip.waveform)
        return LatentClip(name, tensors["latents"], tensors["masked"], tensors["rows"].numpy(), sound)

    def denoiser(self, stage: DictConfig, encoder: MelEncoder) -> Denoiser:
        """A new UNet, with the temporal modules that the stage asks for."""
        torch.manual_seed(self.config.seed)
        unet = LatentSyncUNet(temporal=stage.temporal, **_options(self.config.unet))
        if self.start:
            load_known(unet, self.start.unet.state_dict())
        factor = 2 ** (len(self.config.autoencoder.block_out_channels) - 1)
        mask = mask_to_latents(self.mask, factor)
        return Denoiser(unet, encoder, DDIMScheduler(**SCHEDULE), mask, self.config.context_steadiness)

    def denoise(self, name: str, denoiser: Denoiser, clips: list[LatentClip], held_out: list[LatentClip]) -> None:
        """Train one stage, or go on with it; `denoiser` ends with the averaged weights."""
        options = {key: value for key, value in self.config[name].items() if key != "temporal"}
        recipe = DenoisingRecipe(seed=self.config.seed, **options)
        run = DenoisingRun(recipe, denoiser, self.folder / name)
        run.resume()
        sampler = WindowSampler(clips, self.shares, recipe.seed)
        windows = None
        if held_out:
            as_dubbed = WindowSampler(held_out, {}, recipe.seed, swapped_context=0.0)
            windows = as_dubbed.batch(0, VALIDATION_WINDOWS, recipe.frames)
        run.run(sampler, windows, lambda line: self.log(f"{name} {line}"))
        run.average()
        save_file({key: value.contiguous() for key, value in denoiser.state_dict().items()}, self.averaged(name))

    def averaged(self, name: str) -> Path:
        """File of a stage's averaged weights."""
        return self.folder / name / "averaged.safetensors"

    def export(self, vae: autoencoders.Autoencoder, denoiser: Denoiser) -> Path:
        """Write the checkpoint folder in half precision; the card says what can be read off the run."""
        export = self.config.export
        defaults = {key: export[key] for key in ("num_inference_steps", "guidance_scale", "scheduler")}
        defaults["context_steadiness"] = self.config.context_steadiness
        settings = Settings(
            resolution=self.config.resolution,
            audio_encoder={"type": "mel", **self.config.mel_encoder},
            scheduler=SCHEDULE,
            defaults=defaults,
        )
        return save_folder(
            Path(export.folder),
            unet=denoiser.unet,
            vae=vae,
            audio_encoder=denoiser.encoder,
            settings=settings,
            card=self.card(),
            dtype=torch.float16,
        )

    def card(self) -> str:
        """The model card's first version: sources and recipe; measured figures are added where they are measured."""
        names = ", ".join(sorted(clip.name for clip in self._training_clips()))
        return f"# Embedded checkpoint\n\nTrained on: {names}\n\n```yaml\n{OmegaConf.to_yaml(self.config)}```\n"


def _spread(crops: np.ndarray, count: int) -> np.ndarray:
    """`count` of the frames, evenly spread."""
    return crops[np.linspace(0, len(crops) - 1, count).astype(int)]


def _options(config: DictConfig) -> dict[str, Any]:
    """A group of options as plain keyword arguments."""
    return {str(name): value for name, value in OmegaConf.to_object(config).items()}  # type: ignore[union-attr]
