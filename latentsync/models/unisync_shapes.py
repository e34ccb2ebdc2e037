"""Can a UniSync of this configuration be built? Reckoned before anything is, with what to change where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentsync.models.unisync import NUMBERS, PICTURES, POOLED, SOUNDS, Audio, Visual
from latentsync.types import InputError

STAGE_LISTS = ("widths", "strides", "residuals")


def check_network(config: Mapping[str, Any]) -> None:
    """InputError when a config of `UniSync` cannot be built, or a front part ends smaller than it is pooled to."""
    visual, audio = Visual(**config["visual"]), Audio(**config["audio"])
    for name, kind, known in (("visual.kind", visual.kind, PICTURES + NUMBERS), ("audio.kind", audio.kind, SOUNDS)):
        if kind not in known:
            raise InputError(f"{name} is {kind!r}: choose one of {', '.join(known)}")
    if visual.kind in PICTURES and (visual.size <= 0 or visual.size % 2):
        raise InputError(f"visual.size is {visual.size}: give an even number of pixels")
    if min(visual.width, audio.width) < 1:
        raise InputError(f"the network looks at {visual.width} and listens to {audio.width} numbers: give some")
    _check_lists("network.trunk", config["trunk"], ("widths", "residuals"))
    fronts = [("pictures", visual)] if visual.kind in PICTURES else []
    for name, side in fronts + ([("mel", audio)] if audio.kind == "mel" else []):
        front = config[name]
        _check_lists(f"network.{name}", front, STAGE_LISTS)
        if front["widths"][-1] != config["channels"]:
            raise InputError(
                f"network.{name} ends in {front['widths'][-1]} channels and network.channels is {config['channels']}: "
                "make them alike"
            )
        _check_size(name, front["strides"], side.shape[1:])


def _check_lists(name: str, group: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    counts = {key: len(group[key]) for key in keys}
    if len(set(counts.values())) > 1 or not counts["widths"]:
        told = ", ".join(f"{count} {key}" for key, count in counts.items())
        raise InputError(f"{name} has {told}: give one of each a stage, one stage at least")
    if min(group["widths"]) < 1 or min(group["residuals"]) < 0:
        raise InputError(f"{name}: widths must be at least 1 and residuals at least 0")


def _check_size(name: str, strides: list[Any], size: tuple[int, int]) -> None:
    """A front part pads by half a kernel, so that each stride divides the size and rounds up."""
    sizes = [size]
    for stride in strides:
        steps = (stride, stride) if isinstance(stride, int) else stride
        sizes.append((-(-sizes[-1][0] // steps[0]), -(-sizes[-1][1] // steps[1])))
    short = [axis for axis, end, wanted in zip(("height", "width"), sizes[-1], POOLED, strict=True) if end < wanted]
    if short:
        told = " -> ".join(f"{height}x{width}" for height, width in sizes)
        raise InputError(
            f"network.{name} must end at {POOLED[0]}x{POOLED[1]} or more, but its sizes are {told}: lower a stride in "
            f"{' and '.join(short)}" + ("" if name == "mel" else ", or raise visual.size")
        )
