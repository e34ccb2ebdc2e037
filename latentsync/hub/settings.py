"""What a checkpoint says of itself besides its weights: the top `config.json` of a folder of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from latentsync.config import unknown_key
from latentsync.diffusion.schedulers import PUBLISHED_CONFIG
from latentsync.faces.masks import REGIONS
from latentsync.types import MODEL_FPS, WINDOW_FRAMES, CheckpointError

FORMAT = "latentsync"
FORMAT_VERSION = 1
BOOKKEEPING = ("format", "format_version", "files", "global_step")  # entries that are no settings
MASK = "latentsync"  # the only region there is: `faces.masks.inpaint_mask`


@dataclass(frozen=True)
class Settings:
    """How the networks of a checkpoint were trained and are to be used."""

    resolution: int = 256  # pixels, side of the square face crops
    fps: float = MODEL_FPS
    mask: str = MASK
    window_frames: int = WINDOW_FRAMES
    audio_encoder: Mapping[str, Any] = field(default_factory=lambda: {"type": "whisper", "levels": 5})
    scheduler: Mapping[str, Any] = field(default_factory=lambda: dict(PUBLISHED_CONFIG))
    defaults: Mapping[str, Any] = field(
        default_factory=lambda: {"num_inference_steps": 20, "guidance_scale": 1.5, "scheduler": "ddim"}
    )  # a checkpoint may want `context_steadiness` (`diffusion.conditioning`) and `region` (`faces.masks.REGIONS`) too

    def as_json(self) -> dict[str, Any]:
        """The entries of `config.json`, ready to be written."""
        return asdict(self)


def read_settings(config: Mapping[str, Any], where: Path) -> Settings:
    """The settings in a folder's `config.json`; what it leaves out is as published.

    CheckpointError names an entry that is unknown, of another kind than wanted, or not supported.
    """
    defaults = Settings()
    known = [entry.name for entry in fields(Settings)]
    values = {key: value for key, value in config.items() if key not in BOOKKEEPING}
    for key, value in values.items():
        if key not in known:
            raise CheckpointError(str(unknown_key(key, known, str(where))))
        if not _alike(value, getattr(defaults, key), key):
            raise CheckpointError(f"{where}: {key} is {value!r}, which is no possible value")
    if values.get("resolution") is None:  # a converted UNet does not say
        values.pop("resolution", None)
    values["defaults"] = {**defaults.defaults, **values.get("defaults", {})}
    settings = Settings(**values)
    region = settings.defaults.get("region", "face")
    for kind, wanted, supported in (("mask", settings.mask, (MASK,)), ("region", region, REGIONS)):
        if wanted not in supported:
            raise CheckpointError(f"{where}: the {kind} {wanted!r} is not known here; update latentsync")
    return settings


def _alike(value: Any, default: Any, key: str) -> bool:
    if key == "resolution":
        return value is None or (isinstance(value, int) and value > 0)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and value > 0
    return isinstance(value, type(default))
