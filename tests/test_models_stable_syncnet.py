"""StableSyncNet against the published network's answers, and its config as shapes tell it."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from latentsync.models.stable_syncnet import PUBLISHED_CONFIG, ResidualBlock, StableSyncNet, config_from_state_dict
from latentsync.types import CheckpointError


@torch.no_grad()
def test_parity_with_the_published_network(parity_dir):
    tensors = torch.load(parity_dir / "stable_syncnet.pt", weights_only=True)["state_dict"]
    described = json.loads((parity_dir / "stable_syncnet.json").read_text())
    config = config_from_state_dict(tensors)
    for tower, read in config.items():
        for key, value in read.items():
            assert json.loads(json.dumps(value)) == described[tower][key], (tower, key)
    network = StableSyncNet(config).eval()
    network.load_state_dict(tensors)
    stored = load_file(parity_dir / "stable_syncnet_io.safetensors")
    images, mel = stored.pop("images").float(), stored.pop("mel").float()
    answers = dict(zip(("visual", "audio"), network(images, mel), strict=True))
    for name, expected in stored.items():
        answer = next(answers[key] for key in answers if key in name)
        torch.testing.assert_close(answer, expected, atol=1e-4, rtol=0)


def small() -> StableSyncNet:
    towers = {
        name: {**tower, "block_out_channels": (32,) * (len(tower["attn_blocks"]) - 1) + (64,), "dropout": 0.1}
        for name, tower in PUBLISHED_CONFIG.items()
    }
    torch.manual_seed(0)
    return StableSyncNet(towers).eval()


@torch.no_grad()
def test_both_vectors_have_length_one_and_belong_to_their_own_input():
    network = small()
    images, mel = torch.randn(2, 48, 128, 256), torch.randn(2, 1, 80, 52)
    visual, audio = network(images, mel)
    assert visual.shape == audio.shape == (2, 64)
    for vectors in (visual, audio):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
        assert vectors.min() >= 0
    alone, _ = network(images[1:], mel[1:])
    torch.testing.assert_close(alone[0], visual[1], atol=1e-5, rtol=0)


def test_config_is_read_off_the_shapes():
    network = small()
    config = config_from_state_dict(network.state_dict())
    for name, tower in config.items():
        assert {**tower, "dropout": 0.1} == network.config[name]


def test_other_depth_and_other_networks_are_refused():
    tensors = {key: value for key, value in small().state_dict().items() if ".down_blocks.8." not in key}
    with pytest.raises(CheckpointError, match="not the published 7"):
        config_from_state_dict(tensors)
    with pytest.raises(CheckpointError, match="tensor audio_encoder"):
        config_from_state_dict({"conv_in.weight": torch.zeros(1)})


@pytest.mark.parametrize(("stride", "size"), [(1, (6, 9)), (2, (3, 4)), ((2, 3), (3, 3)), ((1, 2), (6, 4))])
def test_a_strided_block_is_padded_at_the_bottom_and_right_only(stride, size):
    block = ResidualBlock(32, 32, stride, dropout=0.0)
    picture = torch.zeros(1, 32, 6, 9)
    assert block(picture).shape[2:] == size
    if stride == 2:
        torch.testing.assert_close(block.padding, (0, 1, 0, 1))
