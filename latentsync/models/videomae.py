"""VideoMAE (arXiv 2203.12602) as a frozen critic of motion: a clip of 16 frames becomes one vector.

The network is transformers'. Weights published for VideoMAE-v2 (arXiv 2303.16727) carry other names; `from_v2`
translates them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from latentsync.types import CheckpointError

if TYPE_CHECKING:
    from transformers import VideoMAEModel

V2_NORM_EPS = 1e-6  # of every norm in VideoMAE-v2
V2_HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}  # by width: small, base, large, huge, giant
V2_FRAMES, V2_PIXELS = 16, 224  # a side; neither can be read off the tensors, for positions are computed

_V2_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.q_bias$", ".attention.attention.query.bias"),
    (r"\.attn\.v_bias$", ".attention.attention.value.bias"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


class VideoFeatures(nn.Module):
    """A frozen VideoMAE: the mean over the tokens of its last layer, through the classifier's norm where it has one."""

    def __init__(self, encoder: VideoMAEModel, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.norm = encoder, norm
        self.frames: int = encoder.config.num_frames
        self.size: int = encoder.config.image_size  # type: ignore[assignment]
        self.eval().requires_grad_(False)

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        """videos: (b, frames, 3, size, size) in [0, 1] -> (b, d), the vector before the head."""
        vectors = self.encoder(videos).last_hidden_state.float().mean(dim=1)  # rounded once more, clips alike differ
        return vectors if self.norm is None else self.norm(vectors)


def from_v2(state: Mapping[str, torch.Tensor], heads: int | None = None) -> VideoFeatures:
    """A VideoMAE-v2 fine-tuned network from its published `state_dict`, without its classifier.

    heads: of the attention; by default those of the published network of the same width.
    CheckpointError when it is no such network, or one with parts that transformers' VideoMAE does not have.
    """
    from transformers import VideoMAEConfig, VideoMAEModel

    try:
        config = VideoMAEConfig(**_v2_config(state, heads))
    except KeyError as error:
        raise CheckpointError(f"not a VideoMAE-v2 network: {error.args[0]} is missing or of unknown width") from None
    features = VideoFeatures(VideoMAEModel(config), nn.LayerNorm(config.hidden_size, eps=V2_NORM_EPS))
    tensors = _v2_tensors(state)
    missing, surplus = features.load_state_dict(tensors, strict=False)
    if missing or surplus:
        raise CheckpointError(
            f"not a VideoMAE-v2 network that can be used here: missing {missing[:3]}, surplus {surplus[:3]}"
        )
    return features


def _v2_config(state: Mapping[str, torch.Tensor], heads: int | None) -> dict[str, Any]:
    width, _, tubelet, patch, _ = state["patch_embed.proj.weight"].shape
    return {
        "image_size": V2_PIXELS,
        "num_frames": V2_FRAMES,
        "patch_size": patch,
        "tubelet_size": tubelet,
        "hidden_size": width,
        "num_hidden_layers": 1 + max(int(found[1]) for key in state if (found := re.match(r"blocks\.(\d+)\.", key))),
        "num_attention_heads": heads or V2_HEADS[width],
        "intermediate_size": state["blocks.0.mlp.fc1.weight"].shape[0],
        "layer_norm_eps": V2_NORM_EPS,
        "use_mean_pooling": True,
    }


def _v2_tensors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if key.startswith("head."):
            continue
        if key.startswith("fc_norm."):
            tensors[key.replace("fc_norm", "norm")] = tensor
            continue
        for pattern, name in _V2_NAMES:
            key = re.sub(pattern, name, key)
        if key.endswith(".attn.qkv.weight"):
            stem = f"encoder.{key.removesuffix('attn.qkv.weight')}attention.attention."
            for name, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[f"{stem}{name}.weight"] = part
        else:
            tensors[f"encoder.{key}"] = tensor
    return tensors


def small_config(size: int = 64, patch: int = 16, width: int = 96, layers: int = 4, heads: int = 4) -> dict[str, Any]:
    """Arguments of a VideoMAEConfig that a few cores can pretrain; size: pixels of a side, patch: of a token."""
    return {
        "image_size": size,
        "patch_size": patch,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "decoder_hidden_size": width // 2,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": heads // 2,
        "decoder_intermediate_size": 2 * width,
        "use_mean_pooling": False,  # a last norm that is trained: the features are the mean behind it
    }
