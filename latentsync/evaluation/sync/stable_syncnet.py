"""StableSyncNet as a critic of files: the published network or one that was trained here, of pixels or of latents."""

from __future__ import annotations

import numpy as np

from latentsync.data.sync_vectors import StableVectors
from latentsync.evaluation.sync.critic import Talk
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.faces.alignment import PUBLISHED_RESOLUTION
from latentsync.models.autoencoder import Autoencoder, scale
from latentsync.models.stable_syncnet import StableSyncNet
from latentsync.types import InputError


class StableSyncNetCritic(VectorCritic):
    """Cosines in [0, 1] of windows of as many frames as the network looks at, 16 in the published one."""

    name = "StableSyncNet"

    def __init__(self, network: StableSyncNet, vae: Autoencoder | None = None) -> None:
        """network: see `hub.load_stable_syncnet`; vae: whose latents it looks at, where it does. InputError without."""
        super().__init__()
        looks_at = network.input
        latent = vae if looks_at.space == "latent" else None
        if looks_at.space == "latent" and latent is None:
            raise InputError("this StableSyncNet looks at latents: name the autoencoder that it was trained with")
        self.frames = looks_at.frames
        self._vectors = StableVectors(network, latent)
        self._side = max(looks_at.size, PUBLISHED_RESOLUTION) if latent is None else looks_at.size * scale(latent)
        self._exact = latent is not None

    def seen(self, talk: Talk) -> np.ndarray:
        """(f - frames + 1, d). InputError where a network of latents meets crops prepared at another size."""
        return self._vectors.seen(self._checked(crop, talk.name) for crop in talk.crops(self._side))

    def heard(self, talk: Talk) -> np.ndarray:
        """(f - frames + 1, d)."""
        return self._vectors.heard(talk.waveform, len(talk) - self.frames + 1)

    def _checked(self, crop: np.ndarray, name: str) -> np.ndarray:
        if self._exact and len(crop) != self._side:
            raise InputError(f"{name} has crops of {len(crop)} px, and the critic needs {self._side}: prepare it again")
        return crop
