"""From a configuration of `configs/unet/` to the UNet's training task: networks, critics, clips, caches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from latentsync.audio.features import AudioEncoder
from latentsync.audio.mel_encoder import MelEncoder
from latentsync.data.crops import ClipCrops
from latentsync.data.windows import WindowRecipe, Windows
from latentsync.diffusion.schedulers import scheduler_config
from latentsync.faces.masks import REGIONS, inpaint_mask
from latentsync.hub import Components, Settings, load_audio_encoder, load_components, load_unet, load_vae
from latentsync.hub.loras import LoraCard, unet_digest
from latentsync.losses.weighted_sum import WeightedSum
from latentsync.models import autoencoder
from latentsync.models.autoencoder import Autoencoder
from latentsync.models.unet import LatentSyncUNet
from latentsync.training.loop.records import clips_hash
from latentsync.training.loop.start import differing
from latentsync.training.loop.task import Task
from latentsync.training.unet.critics import load_critics
from latentsync.training.unet.data import Cutter, read_clips
from latentsync.training.unet.parts import add_lora, choose_parts, load_known, load_temporal
from latentsync.training.unet.pixel_losses import Critics
from latentsync.training.unet.task import ConditionedUNet, Frozen, TaskOptions, UNetTask
from latentsync.types import MODEL_FPS, InputError

VALIDATION_SEED = 20_241_210  # the held-out windows are the same in every run
FEWEST_VALIDATED = 2  # held-out windows
EXPORTED_DEFAULTS = ("num_inference_steps", "guidance_scale", "scheduler", "region")  # of dubbing, from `export`
FILE_TYPES = {"fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Networks:
    """What a run begins with."""

    unet: LatentSyncUNet
    vae: Autoencoder
    encoder: AudioEncoder
    scheduler: dict[str, Any]

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(c, h, w) of one frame's latents."""
        side = resolution // autoencoder.scale(self.vae)
        return self.vae.config["latent_channels"], side, side


def build(config: DictConfig) -> tuple[Task, str]:
    """The task of a configuration and the hash of its data. InputError for whatever does not fit together."""
    training, held_out, data_hash = read_clips(config)
    return make_task(config, training, held_out), data_hash  # type: ignore[return-value]


def make_task(config: DictConfig, training: Sequence[ClipCrops], held_out: Sequence[ClipCrops]) -> UNetTask:
    """The task on clips in memory; they are encoded and cut when it is prepared. InputError as `build`."""
    if config.validation.windows < FEWEST_VALIDATED:
        raise InputError(
            f"validation.windows is {config.validation.windows}: give at least {FEWEST_VALIDATED}, for each "
            "hears another's sound too"
        )
    networks = load_networks(config)
    weights = WeightedSum(_plain(config.weights))
    shape = networks.latent_shape(config.resolution)
    critics = load_critics(config, weights, shape[1])
    lora = _lora_card(config, networks, training) if config.lora.rank else None
    if lora is not None:
        add_lora(networks.unet, config.lora.rank, config.lora.alpha, config.run.seed)
    else:
        choose_parts(networks.unet, config.trained)
    if config.run.gradient_checkpointing and critics.look_at_pixels:
        networks.vae.enable_gradient_checkpointing()
    learns = isinstance(networks.encoder, MelEncoder) and config.audio_encoder.rate > 0
    mask = torch.from_numpy(inpaint_mask(config.resolution).copy())
    steps = networks.scheduler["num_train_timesteps"]
    listens = critics.sync is not None
    cutter = Cutter(config, networks.vae, networks.encoder, mask, learns, shape, steps, listens)
    encoder = networks.encoder if learns else None
    assert encoder is None or isinstance(encoder, MelEncoder)
    return UNetTask(
        ConditionedUNet(networks.unet, encoder),
        Frozen.of(networks.vae, critics, networks.scheduler, mask, None if learns else networks.encoder),
        _windows(config, cutter, training, held_out, critics),
        weights,
        _settings(config, networks),
        TaskOptions(
            context_steadiness=config.data.context_steadiness,
            kept_weight=config.losses.kept_weight,
            min_snr=config.losses.min_snr,
            encoder_rate=config.audio_encoder.rate,
            compiled=config.compiled,
            export_dtype=FILE_TYPES[config.export.dtype],
            validated=config.validation.windows,
            dubbed=config.validation.dubbed,
            lora=lora,
        ),
    )


def _lora_card(config: DictConfig, networks: Networks, clips: Sequence[ClipCrops]) -> LoraCard:
    """What its folder will say. InputError without a checkpoint that the LoRA could be added to."""
    if not config.start_from:
        raise InputError("lora.rank changes a checkpoint, and none is named: give start_from, or set lora.rank=0")
    return LoraCard(
        name=config.lora.name or Path(config.run_folder).name,
        base=str(config.start_from),
        base_unet=unet_digest(networks.unet),
        clips=len(clips),
        seconds=round(sum(len(clip) for clip in clips) / MODEL_FPS, 2),
        data=clips_hash(clips),
    )


def _windows(
    config: DictConfig, cutter: Cutter, training: Sequence[ClipCrops], held_out: Sequence[ClipCrops], critics: Critics
) -> Callable[[], tuple[Windows, Windows | None]]:
    """What cuts the clips when training begins; what cannot work is told at once. InputError as `build`."""
    recipe = WindowRecipe(**_plain(config.windows))
    decoded, looks = _decoded(config, recipe, critics), _plain(config.data)["looks"]
    if recipe.swapped_context and not config.data.cache_latents:
        raise InputError("windows.swapped_context needs data.cache_latents=true: it looks for alike surroundings")
    as_dubbed = replace(recipe, audio_dropout=0.0, swapped_context=0.0, changed_voices=0.0)

    def cut() -> tuple[Windows, Windows | None]:
        seen = cutter.windows(training, recipe, config.run.seed, decoded, looks)
        if not held_out:
            return seen, None
        return seen, cutter.windows(held_out, as_dubbed, VALIDATION_SEED, recipe.frames, None)

    return cut


def load_networks(config: DictConfig) -> Networks:
    """The networks that a run begins with: of the checkpoint `start_from`, or new.

    InputError when the checkpoint is not of the shape that the configuration gives, or parts do not fit together.
    """
    start = load_components(config.start_from) if config.start_from else None
    unet = _unet(config, start)
    if config.temporal_from:
        load_temporal(unet, load_unet(config.temporal_from).state_dict(), config.temporal_from)
    vae = load_vae(config.vae) if config.vae else start.vae if start else load_vae()
    encoder = _encoder(config, start)
    width = unet.config["cross_attention_dim"]
    if encoder.width != width:
        raise InputError(
            f"the audio encoder gives tokens of width {encoder.width} and the UNet listens to {width}: set "
            "unet.cross_attention_dim, or give another audio_encoder"
        )
    given = {key: value for key, value in _plain(config.scheduler).items() if value is not None}
    if start:
        _same(given, start.settings.scheduler, f"scheduler of {config.start_from}")
    return Networks(unet, vae, encoder, scheduler_config({**(start.settings.scheduler if start else {}), **given}))


def _unet(config: DictConfig, start: Components | None) -> LatentSyncUNet:
    given = {key: value for key, value in _plain(config.unet).items() if value is not None}
    if start is None:
        return _new(config, lambda: LatentSyncUNet(**given))
    known = inspect.signature(LatentSyncUNet.__init__).parameters
    own = {key: value for key, value in start.unet.config.items() if key in known}
    _same({key: value for key, value in given.items() if key != "temporal"}, own, f"UNet of {config.start_from}")
    unet = _new(config, lambda: LatentSyncUNet(**{**own, "temporal": config.unet.temporal}))
    load_known(unet, start.unet.state_dict())
    return unet


def _new(config: DictConfig, make: Any) -> Any:
    """A network with weights drawn from `run.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        return make()


def _same(given: dict[str, Any], found: Any, what: str) -> None:
    if told := differing(given, found):
        raise InputError(f"the {what} has another shape: {'; '.join(told)}; leave these options out, or start anew")


def _encoder(config: DictConfig, start: Components | None) -> AudioEncoder:
    wanted = config.audio_encoder
    if wanted.load:
        return load_audio_encoder(wanted.load)
    if wanted.mel:
        encoder = _new(config, lambda: MelEncoder(**_plain(wanted.mel)))
        if start and isinstance(start.audio_encoder, MelEncoder):
            _same(encoder.config, start.audio_encoder.config, f"mel encoder of {config.start_from}")
            encoder.load_state_dict(start.audio_encoder.state_dict())
        return encoder
    if start:
        return start.audio_encoder
    raise InputError(
        "the UNet needs an audio encoder: give audio_encoder.load=NAME (Whisper's tiny.pt, a folder), or "
        "audio_encoder.mel={width: 128, levels: 4, hidden: 160} for one that is trained along, or start_from=CHECKPOINT"
    )


def _settings(config: DictConfig, networks: Networks) -> Settings:
    export = _plain(config.export)
    if export["region"] not in REGIONS:
        raise InputError(f"export.region is {export['region']!r}; give one of {', '.join(REGIONS)}")
    defaults = {key: export[key] for key in EXPORTED_DEFAULTS}
    defaults["context_steadiness"] = config.data.context_steadiness
    return Settings(resolution=config.resolution, scheduler=networks.scheduler, defaults=defaults)


def _decoded(config: DictConfig, recipe: WindowRecipe, critics: Critics) -> int:
    """Frames of a window that are decoded in training. InputError when a critic needs more than are asked for."""
    if not critics.look_at_pixels:
        return 0
    wanted = config.losses.decoded_frames or recipe.frames
    if wanted > recipe.frames or (critics.want_whole_windows and wanted < recipe.frames):
        raise InputError(
            f"losses.decoded_frames is {wanted} and windows have {recipe.frames} frames: sync and trepa look at whole "
            "windows, the perceptual loss at any number up to that"
        )
    return wanted


def _plain(group: DictConfig) -> dict[str, Any]:
    """A group of options as plain values."""
    return {str(key): value for key, value in OmegaConf.to_container(group, resolve=True).items()}  # type: ignore[union-attr]
