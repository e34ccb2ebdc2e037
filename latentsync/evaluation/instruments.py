"""The networks that a user gave weights for; what was not given is missing in the results, never replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentsync.evaluation.families.distribution import NO_TORCHMETRICS
from latentsync.types import InputError

if TYPE_CHECKING:
    from torch import nn

    from latentsync.evaluation.sync.critic import SyncCritic
    from latentsync.faces.identity import IdentityEmbedder
    from latentsync.losses.perceptual import Lpips
    from latentsync.models.videomae import VideoFeatures

FILES = (
    *("syncnet", "stable_syncnet", "unisync", "unisync_encoder", "unisync_landmarker", "unisync_parser"),
    *("identity_weights", "lpips_backbone", "lpips_heads", "fid_weights", "fvd_features"),
)


@dataclass(frozen=True)
class Instruments:
    """Loaded networks. files: which file each came from, by a name of FILES; trained_with: critics that the model which
    made the dubs was trained with, so that what they say of it is marked."""

    critics: Mapping[str, SyncCritic] = field(default_factory=dict)
    identity: IdentityEmbedder | None = None
    lpips: Lpips | None = None
    inception: nn.Module | None = None
    video: VideoFeatures | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    trained_with: frozenset[str] = frozenset()


def load_instruments(given: Mapping[str, str | None]) -> Instruments:
    """Load what is named. given: by a name of FILES, None where nothing was given.

    raises: CheckpointError for a file that is not exactly such a network, InputError for half of what LPIPS or a
        UniSync needs
    """
    files = {name: path for name, path in given.items() if path is not None}
    if ("lpips_backbone" in files) != ("lpips_heads" in files):
        raise InputError("--lpips-backbone and --lpips-heads belong together: give both, or neither")
    loaded: dict[str, Any] = {}
    if "identity_weights" in files:
        from latentsync.faces.identity import IdentityEmbedder

        loaded["identity"] = IdentityEmbedder(Path(files["identity_weights"]))
    if "lpips_heads" in files:
        from latentsync.losses.perceptual import load_lpips

        loaded["lpips"] = load_lpips(files["lpips_backbone"], files["lpips_heads"])
    if "fid_weights" in files:
        loaded["inception"] = _inception(files["fid_weights"])
    if "fvd_features" in files:
        from latentsync.hub.videomae import load_video_features

        loaded["video"] = load_video_features(files["fvd_features"])
    names = {name: Path(path).name for name, path in files.items()}
    return Instruments(critics=_critics(files), files=names, **loaded)


def _critics(files: Mapping[str, str]) -> dict[str, SyncCritic]:
    """By the names of `families.sync.KEYS`."""
    critics: dict[str, SyncCritic] = {}
    if "syncnet" in files:
        from latentsync.evaluation.sync.syncnet import SyncNetCritic
        from latentsync.hub import load_syncnet

        critics["syncnet"] = SyncNetCritic(load_syncnet(files["syncnet"]))
    if "stable_syncnet" in files:
        from latentsync.evaluation.sync.stable_syncnet import StableSyncNetCritic
        from latentsync.hub import load_stable_syncnet

        critics["stable_syncnet"] = StableSyncNetCritic(load_stable_syncnet(files["stable_syncnet"]))
    if "unisync" in files:
        from latentsync.evaluation.sync.unisync import UniSyncCritic
        from latentsync.hub import load_audio_encoder, load_unisync

        critics["unisync"] = UniSyncCritic(
            load_unisync(files["unisync"]),
            parser=files.get("unisync_parser"),
            landmarker=files.get("unisync_landmarker"),
            encoder=load_audio_encoder(files["unisync_encoder"]) if "unisync_encoder" in files else None,
        )
    elif lonely := sorted(name for name in files if name.startswith("unisync_")):
        raise InputError(f"--{lonely[0].replace('_', '-')} goes with --unisync: give both, or neither")
    return critics


def _inception(path: str) -> nn.Module:
    """FID's own network, torch-fidelity's translation of it (pt_inception-2015-12-05-6726825d.pth)."""
    if not Path(path).is_file():
        raise InputError(f"--fid-weights: '{path}' is not a file; give pt_inception-2015-12-05-6726825d.pth")
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3
    except ImportError as error:
        raise InputError(f"--fid-weights: {NO_TORCHMETRICS} and torch-fidelity, or leave the flag out") from error
    return NoTrainInceptionV3("inception-v3-compat", ["2048"], path)
