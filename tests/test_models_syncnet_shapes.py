"""The towers' sizes as reckoned against the blocks themselves, and advice that works when it is followed."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch

from latentsync.models.stable_syncnet import PUBLISHED_CONFIG, ResidualBlock, StableSyncNet, VisualInput, lower_half
from latentsync.models.syncnet_shapes import AUDIO_SHAPE, check_network, tower_sizes
from latentsync.types import InputError

ADVICE = re.compile(r"stride in (height|width) of ((?:block \d+ from \d to \d(?: and )?)+)")
CHANGE = re.compile(r"block (\d+) from (\d) to (\d)")


def published(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(PUBLISHED_CONFIG)
    for path, value in changes.items():
        tower, key = path.split("__")
        config[f"{tower}_encoder"][key] = value
    return config


def test_the_published_towers_end_at_one_place() -> None:
    check_network(PUBLISHED_CONFIG)
    sizes = tower_sizes(PUBLISHED_CONFIG["audio_encoder"]["downsample_factors"], AUDIO_SHAPE[1:])
    assert sizes == [(80, 52), (40, 52), (20, 26), (10, 13), (10, 13), (5, 6), (2, 3), (1, 1)]


@pytest.mark.parametrize("size", [(7, 12), (5, 3), (2, 9), (64, 26)])
@pytest.mark.parametrize("stride", [1, 2, 3, (1, 2), (2, 3)])
def test_sizes_are_those_of_the_blocks(size: tuple[int, int], stride: Any) -> None:
    with torch.device("meta"):
        made = ResidualBlock(32, 32, stride, dropout=0.0)(torch.zeros(1, 32, *size))
    assert tower_sizes([stride], size)[1] == tuple(made.shape[2:])


def follow(message: str, config: dict[str, Any]) -> dict[str, Any]:
    """The config after the change of strides that a message asks for."""
    tower = config[message.split(" ", 1)[0]]
    strides = [[s, s] if isinstance(s, int) else list(s) for s in tower["downsample_factors"]]
    for axis, changes in ADVICE.findall(message):
        for block, before, after in CHANGE.findall(changes):
            place = strides[int(block) - 1]
            assert place[axis == "width"] == int(before)
            place[axis == "width"] = int(after)
    tower["downsample_factors"] = strides
    return config


@pytest.mark.parametrize(
    "strides",
    [
        [(1, 2), 2, 2, 2, 2, 2, 2, 1],  # too few
        [2, 2, 2, 2, 2, 2, 2, 2],  # too many in height
        [(1, 2), 2, 2, 2, 2, 2, 2, (2, 1)],  # too few in width
        [3, 3, 3, 3, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 2, 2, 2],
    ],
)
def test_the_advice_mends_the_strides(strides: Any) -> None:
    config = published(visual__downsample_factors=strides)
    with pytest.raises(InputError, match="visual_encoder must end at 1x1") as told:
        check_network(config)
    check_network(follow(str(told.value), config))


def test_the_message_reasons_from_the_sizes() -> None:
    with pytest.raises(InputError, match=r"128x128 -> .* -> 2x2; its height ends at 2: .*block 8 from 1 to 2"):
        check_network(published(visual__downsample_factors=[(1, 2), 2, 2, 2, 2, 2, 2, 1]))
    with pytest.raises(InputError, match="its height is used up before block 8"):
        check_network(published(visual__downsample_factors=[2, 2, 2, 2, 2, 2, 2, 2]))
    with pytest.raises(InputError, match="add a block with stride 2"):
        check_network({**published(), "input": {"size": 256 * 3**9}})


def test_what_else_cannot_be_built() -> None:
    with pytest.raises(InputError, match=r"in_channels is 48, but the input has 64"):
        check_network({**published(), "input": {"space": "latent"}})
    with pytest.raises(InputError, match="multiples of 32"):
        check_network(published(audio__block_out_channels=[32, 48, 128, 256, 512, 1024, 2048]))
    with pytest.raises(InputError, match=r"visual_encoder: the last of block_out_channels is 32.*give 128 or more"):
        check_network(published(visual__block_out_channels=[32] * 8))
    with pytest.raises(InputError, match="same width"):
        check_network(published(audio__block_out_channels=[32, 64, 128, 256, 512, 1024, 1024]))
    with pytest.raises(InputError, match="6 in attn_blocks"):
        check_network(published(audio__attn_blocks=[0] * 6))
    with pytest.raises(InputError, match=r"input.space is 'depth'"):
        check_network({**published(), "input": {"space": "depth"}})


def test_the_input_travels_with_the_network_unless_it_is_the_published_one() -> None:
    with torch.device("meta"):
        assert "input" not in StableSyncNet(PUBLISHED_CONFIG).config
        other = StableSyncNet({**PUBLISHED_CONFIG, "input": {"size": 64}})
        assert StableSyncNet(other.config).input == VisualInput(size=64)


def test_lower_halves_are_laid_out_frame_by_frame() -> None:
    frames = torch.arange(2 * 3 * 4 * 4).reshape(1, 2, 3, 4, 4).float()
    halves = lower_half(frames, VisualInput(frames=2, size=4))
    assert halves.shape == (1, 6, 2, 4)
    assert torch.equal(halves[0, 4], frames[0, 1, 1, 2:])


def test_resizing_is_that_of_the_imaging_library() -> None:
    from PIL import Image

    frame = torch.randint(70, 180, (24, 24, 3), generator=torch.Generator().manual_seed(0)).byte()
    for size in (16, 40):
        picture = Image.fromarray(frame.numpy()).resize((size, size), Image.Resampling.BICUBIC)
        expected = torch.from_numpy(np.array(picture)).reshape(-1, 3)
        values = frame.permute(2, 0, 1)[None, None].float()
        made = lower_half(values, VisualInput(frames=1, size=size))[0].permute(1, 2, 0).reshape(-1, 3)
        lower = expected.float()[size * size // 2 :]
        assert (made.clamp(0, 255) - lower).abs().max() < 1.1  # it rounds, twice
