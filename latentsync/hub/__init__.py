"""The one door for weights: a name or a path -> verified files -> networks loaded strictly; and the way back.

A name is `embedded`, a published `.pt` file, a folder of ours, or a hub name such as `ByteDance/LatentSync-1.5@main`.
"""

from __future__ import annotations

from latentsync.hub.components import Components, load_components, save_folder
from latentsync.hub.convert import convert
from latentsync.hub.networks import (
    load_audio_encoder,
    load_stable_syncnet,
    load_unet,
    load_unisync,
    load_vae,
    load_whisper,
)
from latentsync.hub.settings import Settings
from latentsync.hub.syncnet import load_syncnet

__all__ = [
    "Components",
    "Settings",
    "convert",
    "load_audio_encoder",
    "load_components",
    "load_stable_syncnet",
    "load_syncnet",
    "load_unet",
    "load_unisync",
    "load_vae",
    "load_whisper",
    "save_folder",
]
