"""Do the towers of a StableSyncNet end at one place? Reckoned from the config, before anything is built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

from latentsync.models.stable_syncnet import CHANNELS, NORM_GROUPS, Stride, VisualInput
from latentsync.types import InputError

AUDIO_SHAPE = (1, 80, 52)  # channels, mel bands, columns
STRIDES = (1, 2, 3)  # that a message proposes
MOST_CHANGES = 3  # strides that a message proposes to change along one axis
AXES = ("height", "width")


def after(size: int, stride: int) -> int:
    """Size along one axis after a block; 0 where the strided convolution does not fit any more.

    Stride 1 keeps the size; others are padded by one at the end, then a kernel of 3 steps over it.
    """
    return size if stride == 1 else max(0, (size - 2) // stride + 1)


def pairs_of(strides: Sequence[Stride]) -> list[tuple[int, int]]:
    """Strides as (height, width)."""
    return [(s, s) if isinstance(s, int) else (int(s[0]), int(s[1])) for s in strides]


def tower_sizes(strides: Sequence[Stride], size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) that goes in and that comes out of every block."""
    sizes = [size]
    for height, width in pairs_of(strides):
        sizes.append((after(sizes[-1][0], height), after(sizes[-1][1], width)))
    return sizes


def check_network(config: Mapping[str, Any]) -> None:
    """InputError when a config of `StableSyncNet` cannot be built, or a tower does not end at d x 1 x 1.

    The message says which stride to change, by what the sizes come to.
    """
    wanted = VisualInput(**config.get("input", {}))
    if wanted.space not in CHANNELS or wanted.size % 2 or wanted.size <= 0:
        raise InputError(
            f"input.space is {wanted.space!r} and input.size {wanted.size}; give one of {', '.join(CHANNELS)} and an "
            "even number"
        )
    for name, shape in (("visual_encoder", wanted.shape), ("audio_encoder", AUDIO_SHAPE)):
        _check_blocks(name, config[name], shape[0])
        _check_sizes(name, config[name]["downsample_factors"], shape[1:])
    ends = {name: config[name]["block_out_channels"][-1] for name in ("visual_encoder", "audio_encoder")}
    if len(set(ends.values())) > 1:
        told = " and ".join(f"{width} in {name}" for name, width in ends.items())
        raise InputError(f"both towers must end at the same width, but the last of block_out_channels is {told}")


def _check_blocks(name: str, tower: Mapping[str, Any], channels: int) -> None:
    counts = {key: len(tower[key]) for key in ("block_out_channels", "downsample_factors", "attn_blocks")}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} in {key}" for key, count in counts.items())
        raise InputError(f"{name}: every block needs a width, a stride and an attention flag, but there are {told}")
    if tower["in_channels"] != channels:
        raise InputError(f"{name}: in_channels is {tower['in_channels']}, but the input has {channels}: set it to that")
    if odd := [width for width in tower["block_out_channels"] if width <= 0 or width % NORM_GROUPS]:
        raise InputError(f"{name}: widths must be multiples of {NORM_GROUPS}, the groups of its norms, not {odd}")
    if tower["block_out_channels"][-1] == NORM_GROUPS:
        raise InputError(
            f"{name}: the last of block_out_channels is {NORM_GROUPS}, so that its last norm would have groups of one "
            f"number at one place and wipe it out: give {4 * NORM_GROUPS} or more"
        )


def _check_sizes(name: str, strides: Sequence[Stride], size: tuple[int, int]) -> None:
    sizes = tower_sizes(strides, size)
    if sizes[-1] == (1, 1):
        return
    told = " -> ".join(f"{height}x{width}" for height, width in sizes if min(height, width) > 0)
    hints = []
    for axis, start in enumerate(size):
        along = [stride[axis] for stride in pairs_of(strides)]
        if sizes[-1][axis] != 1:
            hints.append(f"its {AXES[axis]} {_verdict(sizes, axis)}: {_advice(along, start, AXES[axis])}")
    raise InputError(f"{name} must end at 1x1, but its sizes are {told}; {'; '.join(hints)}")


def _verdict(sizes: Sequence[tuple[int, int]], axis: int) -> str:
    along = [size[axis] for size in sizes]
    if 0 in along:
        return f"is used up before block {along.index(0)}"
    return f"ends at {along[-1]}"


def _advice(strides: Sequence[int], start: int, axis: str) -> str:
    changes = next(_changes(strides, start), None)
    if changes is None:
        few = math.prod(strides) < start
        return f"{'add' if few else 'remove'} a block with stride 2 in {axis}"
    told = [f"block {block + 1} from {strides[block]} to {stride}" for block, stride in changes]
    return f"change the stride in {axis} of {' and '.join(told)}"


def _changes(strides: Sequence[int], start: int) -> Iterator[list[tuple[int, int]]]:
    """Changes of strides, fewest and latest first, after which `start` comes to 1."""
    for count in range(1, MOST_CHANGES + 1):
        for blocks in sorted(combinations(range(len(strides)), count), reverse=True):
            for values in product(STRIDES, repeat=count):
                tried = list(strides)
                for block, value in zip(blocks, values, strict=True):
                    tried[block] = value
                size = start
                for stride in tried:
                    size = after(size, stride)
                changed = all(strides[block] != value for block, value in zip(blocks, values, strict=True))
                if size == 1 and changed:
                    yield list(zip(blocks, values, strict=True))
