"""The smallest networks of every kind, for the tests of the hub."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from latentsync.audio.encoders import HubertAudioEncoder, Wav2Vec2AudioEncoder
from latentsync.audio.mel_encoder import MelEncoder
from latentsync.hub import Settings
from latentsync.models.unet import LatentSyncUNet, diffusers_to_published

TOKEN_WIDTH = 24
SETTINGS = Settings(
    resolution=96,
    scheduler={"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    defaults={"num_inference_steps": 8, "guidance_scale": 2.0, "scheduler": "dpm++"},
)


def small_unet(seed: int = 0, **changes) -> LatentSyncUNet:
    torch.manual_seed(seed)
    config = {
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "motion_norm_num_groups": 8,
        "cross_attention_dim": TOKEN_WIDTH,
        "num_attention_heads": 2,
        "motion_num_attention_heads": 2,
    }
    return LatentSyncUNet(**{**config, **changes}).eval()


def published_unet(seed: int = 0, **changes) -> dict[str, torch.Tensor]:
    """The `state_dict` of a UNet such as the published form can describe; yours to change."""
    return dict(_published_unet(seed, tuple(sorted(changes.items()))))


@cache
def _published_unet(seed: int, changes: tuple) -> dict[str, torch.Tensor]:
    shape = {"norm_num_groups": 32, "motion_norm_num_groups": 32, "block_out_channels": (32, 32)}
    heads = {"num_attention_heads": 8, "motion_num_attention_heads": 8, "cross_attention_dim": 384}
    unet = small_unet(seed, **{**shape, **heads, **dict(changes)})
    return {name: tensor.clone() for name, tensor in diffusers_to_published(unet.state_dict()).items()}


def small_vae() -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.7,
    ).eval()


def small_mel_encoder() -> MelEncoder:
    torch.manual_seed(2)
    return MelEncoder(width=TOKEN_WIDTH, levels=2, hidden=8).eval()


def small_waveform_encoder(kind: str) -> HubertAudioEncoder | Wav2Vec2AudioEncoder:
    torch.manual_seed(3)
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": (8,) * 7,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    }
    if kind == "hubert":
        return HubertAudioEncoder(HubertModel(HubertConfig(**shape)), levels=(0, 2))
    return Wav2Vec2AudioEncoder(Wav2Vec2Model(Wav2Vec2Config(**shape)))


def write_whisper(path: Path, width: int = 384) -> Path:
    """An OpenAI file with one block and a decoder of one tensor."""
    torch.manual_seed(4)
    dims = {"n_mels": 80, "n_audio_ctx": 30, "n_audio_state": width, "n_audio_head": 4, "n_audio_layer": 1}
    shapes = {
        "positional_embedding": (30, width),
        "conv1.weight": (width, 80, 3),
        "conv1.bias": (width,),
        "conv2.weight": (width, width, 3),
        "conv2.bias": (width,),
        "ln_post.weight": (width,),
        "ln_post.bias": (width,),
    }
    for name in ("attn.query", "attn.key", "attn.value", "attn.out"):
        shapes[f"blocks.0.{name}.weight"] = (width, width)
        if name != "attn.key":
            shapes[f"blocks.0.{name}.bias"] = (width,)
    for name in ("attn_ln", "mlp_ln"):
        shapes |= {f"blocks.0.{name}.weight": (width,), f"blocks.0.{name}.bias": (width,)}
    shapes |= {"blocks.0.mlp.0.weight": (4 * width, width), "blocks.0.mlp.0.bias": (4 * width,)}
    shapes |= {"blocks.0.mlp.2.weight": (width, 4 * width), "blocks.0.mlp.2.bias": (width,)}
    state = {f"encoder.{name}": torch.randn(shape).half() for name, shape in shapes.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"dims": dims, "model_state_dict": {**state, "decoder.ln.weight": torch.ones(width)}}, path)
    return path


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Same names, precisions and bits."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )
