"""Every network by a name or a path: published `.pt` files, folders of ours, diffusers' and transformers' folders."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

from latentsync.audio.encoders import WhisperAudioEncoder, whisper_from_openai
from latentsync.audio.features import AudioEncoder
from latentsync.audio.speech_embedding import SpeechEmbedding
from latentsync.config import resource
from latentsync.hub import remote
from latentsync.hub.audio_encoders import read_audio_encoder
from latentsync.hub.folder import BASIS, CONFIG, DIFFUSERS_WEIGHTS, WEIGHTS, is_folder, open_folder
from latentsync.hub.tensors import build, check_tensors, load_strict, read_json, read_pt, read_safetensors, state_of
from latentsync.models import stable_syncnet, unet
from latentsync.models.autoencoder import Autoencoder
from latentsync.models.stable_syncnet import StableSyncNet
from latentsync.models.unet import LatentSyncUNet
from latentsync.models.unisync import UniSync
from latentsync.types import CheckpointError

FileName = str | PathLike[str]

EMBEDDED = "embedded"
UNET_FILE = "latentsync_unet.pt"
SYNCNET_FILE = "stable_syncnet.pt"
WHISPER_FILE = "whisper/tiny.pt"
PUBLISHED_RESOLUTION = {"ByteDance/LatentSync-1.5": 256, "ByteDance/LatentSync-1.6": 512}  # pixels
PUBLISHED_VAE = "stabilityai/sd-vae-ft-mse"

AUTOENCODERS: dict[str, type[Autoencoder]] = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
# Files written before diffusers renamed the attention of its autoencoders, `sd-vae-ft-mse` among them.
OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def locate(name: FileName, published_file: str, revision: str | None = None) -> Path:
    """A path here for any name: as it is, the embedded checkpoint, or the cached file or folder of a hub name.

    published_file: which file of a published hub repository is meant. CheckpointError when there is nothing.
    """
    path = Path(resource("checkpoints/embedded") if name == EMBEDDED else name)
    if path.exists():
        return path
    hub_name = remote.parse_name(str(name), revision)
    if hub_name is None:
        raise CheckpointError(f"there is no {name}: give {EMBEDDED!r}, a .pt file, a checkpoint folder or a hub name")
    if hub_name.repo in PUBLISHED_RESOLUTION:
        return remote.fetch(hub_name, published_file)
    top = remote.fetch_folder(hub_name, [CONFIG])
    if not is_folder(top):
        raise CheckpointError(f"the hub repository {hub_name} is neither in our format nor one of the published ones")
    return remote.fetch_folder(hub_name, [CONFIG, *read_json(top / CONFIG).get("files", {})])


def locate_part(name: FileName, part: str, published_file: str, revision: str | None = None) -> Path:
    """As `locate`, then the part of a folder of ours; a `.pt` file or a folder of other making as it is."""
    path = locate(name, published_file, revision)
    return open_folder(path).part(part) if is_folder(path) else path


def load_unet(name: FileName, *, revision: str | None = None) -> LatentSyncUNet:
    """The denoising UNet in float32 on the CPU, set to `eval`.

    name: a published `.pt`, a folder of ours, or a hub name. CheckpointError when it is not exactly such a network.
    """
    return read_unet(locate_part(name, "unet", UNET_FILE, revision))


def read_unet(path: Path) -> LatentSyncUNet:
    """path: a published file, or a folder with `config.json` and safetensors. CheckpointError as `load_unet`."""
    if path.is_dir():
        config = read_json(path / CONFIG)
        if config.get("_class_name") != LatentSyncUNet.__name__:
            raise CheckpointError(f"{path} holds neither a checkpoint of ours nor a {LatentSyncUNet.__name__}")
        network = build(LatentSyncUNet, _own_entries(config), path)
        return load_strict(network, read_safetensors(path / DIFFUSERS_WEIGHTS), path)
    state = state_of(read_pt(path), "state_dict", path)
    network = unet_for(state, path)
    return load_strict(network, unet.published_to_diffusers(state), path)


def unet_for(state: dict[str, torch.Tensor], path: Path) -> LatentSyncUNet:
    """The network, without memory, that a published `state_dict` fills exactly. CheckpointError when there is none."""
    try:
        config = unet.config_from_state_dict(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    network = build(LatentSyncUNet, config, path)
    check_tensors(unet.diffusers_to_published(network.state_dict()), state, path)
    return network


def load_stable_syncnet(name: FileName, *, revision: str | None = None) -> StableSyncNet:
    """StableSyncNet in float32 on the CPU, set to `eval`; names and errors as `load_unet`."""
    path = locate_part(name, "stable_syncnet", SYNCNET_FILE, revision)
    if path.is_dir():
        network = build(StableSyncNet, {"config": read_json(path / CONFIG)}, path)
        return load_strict(network, read_safetensors(path / WEIGHTS), path)
    state = state_of(read_pt(path), "state_dict", path)
    return load_strict(syncnet_for(state, path), state, path)


def syncnet_for(state: dict[str, torch.Tensor], path: Path) -> StableSyncNet:
    """The network, without memory, that a published `state_dict` describes. CheckpointError when there is none."""
    try:
        config = stable_syncnet.config_from_state_dict(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return build(StableSyncNet, {"config": config}, path)


def load_unisync(name: FileName, *, revision: str | None = None) -> UniSync:
    """UniSync in float32 on the CPU, set to `eval`.

    name: a folder of ours (train/unisync.py makes one) or a hub name. CheckpointError when it is not exactly such a
    network.
    """
    path = locate_part(name, "unisync", CONFIG, revision)
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file: nobody published UniSync as one; give a folder of train/unisync.py")
    network = build(UniSync, {"config": read_json(path / CONFIG)}, path)
    if (path / BASIS).exists():
        network.basis = read_safetensors(path / BASIS)["components"]
    return load_strict(network, read_safetensors(path / WEIGHTS), path)


def load_vae(name: FileName = PUBLISHED_VAE, *, revision: str | None = None) -> Autoencoder:
    """The autoencoder in float32 on the CPU, set to `eval`.

    name: a folder of ours or of diffusers', or a hub name. CheckpointError when it is not exactly such a network.
    """
    return read_vae(locate_vae(name, revision))


def locate_vae(name: FileName, revision: str | None = None) -> Path:
    """The folder with the autoencoder's `config.json` and weights. CheckpointError when there is none."""
    hub_name = remote.parse_name(str(name), revision)
    if hub_name is not None and not Path(name).exists():
        return remote.fetch_folder(hub_name, [CONFIG, DIFFUSERS_WEIGHTS])
    return locate_part(name, "vae", DIFFUSERS_WEIGHTS, revision)


def read_vae(path: Path) -> Autoencoder:
    """path: a folder with `config.json` and safetensors. CheckpointError as `load_vae`."""
    config = read_json(path / CONFIG)
    described = str(config.get("_class_name"))
    if described not in AUTOENCODERS:
        raise CheckpointError(f"{path / CONFIG} describes a {described}, not {' or '.join(AUTOENCODERS)}")
    kind = AUTOENCODERS[described]
    entries = _own_entries(config)
    if kind is AutoencoderTiny:
        entries.pop("block_out_channels", None)  # it notes what it derives from its arguments
    network = build(kind, entries, path)
    tensors = read_safetensors(path / DIFFUSERS_WEIGHTS)
    return load_strict(network, {_new_name(name): tensor for name, tensor in tensors.items()}, path)


def _new_name(name: str) -> str:
    for old, new in OLD_ATTENTION.items():
        name = name.replace(old, new)
    return name


def _own_entries(config: dict[str, Any]) -> dict[str, Any]:
    """Without diffusers' notes to itself, such as `_class_name`."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def load_whisper(name: FileName, *, revision: str | None = None) -> WhisperAudioEncoder:
    """Whisper's encoder with all its levels, from OpenAI's `.pt`; else as `load_audio_encoder`.

    CheckpointError also when it is an encoder of another kind.
    """
    encoder = load_audio_encoder(name, revision=revision)
    if not isinstance(encoder, WhisperAudioEncoder):
        raise CheckpointError(f"{name} holds a {type(encoder).__name__}, not a Whisper encoder")
    return encoder


def load_audio_encoder(name: FileName, *, revision: str | None = None) -> AudioEncoder:
    """The audio encoder in float32 on the CPU.

    name: OpenAI's Whisper `.pt`, a folder of ours, a folder or a hub name of transformers' (Whisper, HuBERT, wav2vec
    2.0; safetensors), the name of a published LatentSync, or the speech embedding's `.onnx`. CheckpointError when it is
    not exactly such a network.
    """
    path = _of_transformers(name, revision) or locate_part(name, "audio_encoder", WHISPER_FILE, revision)
    if path.suffix == ".onnx":
        return SpeechEmbedding(path)
    return read_audio_encoder(path) if path.is_dir() else read_whisper(path)


def _of_transformers(name: FileName, revision: str | None) -> Path | None:
    """The cached folder of a hub name whose `config.json` is transformers'."""
    hub_name = None if name == EMBEDDED or Path(name).exists() else remote.parse_name(str(name), revision)
    if hub_name is None or hub_name.repo in PUBLISHED_RESOLUTION:
        return None
    if "model_type" not in read_json(remote.fetch_folder(hub_name, [CONFIG]) / CONFIG):
        return None
    return remote.fetch_folder(hub_name, [CONFIG, WEIGHTS])


def read_whisper(path: Path) -> WhisperAudioEncoder:
    """path: OpenAI's `.pt`. CheckpointError names what it holds instead."""
    try:
        return WhisperAudioEncoder(whisper_from_openai(read_pt(path)))
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}") from error
