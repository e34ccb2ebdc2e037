"""Audio encoders as folders: ours (`type`) and transformers' own (`model_type`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentsync.audio.encoders import (
    HubertAudioEncoder,
    Wav2Vec2AudioEncoder,
    WaveformTransformerEncoder,
    WhisperAudioEncoder,
    whisper_from_transformers,
)
from latentsync.audio.features import AudioEncoder
from latentsync.audio.mel_encoder import MelEncoder
from latentsync.hub.folder import CONFIG, WEIGHTS, Part
from latentsync.hub.tensors import build, load_strict, read_json, read_safetensors
from latentsync.types import CheckpointError

TYPES: dict[str, type] = {
    "mel": MelEncoder,
    "whisper": WhisperAudioEncoder,
    "hubert": HubertAudioEncoder,
    "wav2vec2": Wav2Vec2AudioEncoder,
}
PASSING = ("transformers_version", "dtype", "torch_dtype", "_name_or_path", "architectures")  # say nothing of the shape


def describe(encoder: AudioEncoder) -> dict[str, Any]:
    """`type` and `levels`, as the top `config.json` carries them. CheckpointError for an encoder of another kind."""
    for name, kind in TYPES.items():
        if isinstance(encoder, kind):
            return {"type": name, "levels": encoder.levels}
    raise CheckpointError(f"a {type(encoder).__name__} cannot be saved: only {', '.join(TYPES)} can")


def encoder_part(encoder: AudioEncoder) -> Part:
    """What is written of an encoder. CheckpointError for one of another kind."""
    name = describe(encoder)["type"]
    if isinstance(encoder, MelEncoder):
        return Part({"type": name, **encoder.config}, {WEIGHTS: encoder.state_dict()})
    assert isinstance(encoder, (WhisperAudioEncoder, WaveformTransformerEncoder))
    config: dict[str, Any] = {"type": name, "network": network_config(encoder.module.config)}
    if isinstance(encoder, WaveformTransformerEncoder):
        config["level_indices"] = list(encoder.level_indices)
    return Part(config, {WEIGHTS: encoder.module.state_dict()})


def network_config(config: Any) -> dict[str, Any]:
    """The entries of a transformers configuration that shape the network and differ from its defaults."""
    return {key: value for key, value in config.to_diff_dict().items() if key not in PASSING}


def read_audio_encoder(path: Path) -> AudioEncoder:
    """path: a folder with `config.json` and `model.safetensors`. CheckpointError when it is not exactly an encoder."""
    config = read_json(path / CONFIG)
    if "type" not in config:
        return _from_transformers(path, config)
    kind = config.pop("type")
    if kind == "mel":
        return load_strict(build(MelEncoder, config, path), read_safetensors(path / WEIGHTS), path)
    if kind not in TYPES or not isinstance(config.get("network"), dict):
        raise CheckpointError(f"{path / CONFIG} describes no audio encoder of the kinds {', '.join(TYPES)}")
    shell = _whisper(config["network"]) if kind == "whisper" else _waveform_network(kind, config["network"])
    network: Any = load_strict(shell, read_safetensors(path / WEIGHTS), path)
    return WhisperAudioEncoder(network) if kind == "whisper" else TYPES[kind](network, config.get("level_indices"))


def _whisper(config: Mapping[str, Any]) -> Any:
    """transformers' Whisper encoder without its final norm, which no level uses; weights as they come."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    encoder: Any = WhisperEncoder(WhisperConfig.from_dict(dict(config)))
    encoder.layer_norm = nn.Identity()
    return encoder


def _waveform_network(kind: str, config: Mapping[str, Any]) -> nn.Module:
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

    if kind == "hubert":
        return HubertModel(HubertConfig.from_dict(dict(config)))
    return Wav2Vec2Model(Wav2Vec2Config.from_dict(dict(config)))


def _from_transformers(path: Path, config: Mapping[str, Any]) -> AudioEncoder:
    kind = config.get("model_type")
    if kind == "whisper":
        return WhisperAudioEncoder(whisper_from_transformers(read_safetensors(path / WEIGHTS), config))
    if kind not in ("hubert", "wav2vec2"):
        raise CheckpointError(f"{path / CONFIG} describes a {kind!r}, not whisper, hubert or wav2vec2")
    from transformers import HubertModel, Wav2Vec2Model

    model = HubertModel if kind == "hubert" else Wav2Vec2Model
    return TYPES[kind](_whole(model.from_pretrained, path))


def _whole(from_pretrained: Callable[..., Any], path: Path) -> nn.Module:
    """transformers renames old tensors as it reads, and leaves out what is missing: that is an error here."""
    if not (path / WEIGHTS).is_file():
        raise CheckpointError(f"{path} has no {WEIGHTS}: only safetensors are read")
    network, told = from_pretrained(
        path, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
    )
    faults = sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]]))
    if faults:
        raise CheckpointError(f"{path} does not hold the network it describes: missing {', '.join(faults[:5])}")
    return network
