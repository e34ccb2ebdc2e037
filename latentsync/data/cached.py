"""What is computed once for exact contents by an exact network, and kept on disk: latents and audio features.

The name of a file is the digest of what went in, so clips of one name never share, and any number of processes may
fill one folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from latentsync.audio.features import AudioEncoder
from latentsync.data.crops import ClipCrops
from latentsync.data.latents import encode_clip
from latentsync.hub.tensors import module_digest
from latentsync.models.autoencoder import Autoencoder

Tensors = dict[str, torch.Tensor]


def cached(folder: Path, contents: Sequence[bytes], make: Callable[[], Tensors]) -> Tensors:
    """What `make` makes of `contents`, from `folder` where it has been made before; memory-mapped."""
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(hashlib.blake2b(content).digest())
    path = folder / f"{digest.hexdigest()}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}-{path.name}")
        save_file(make(), partial)
        partial.replace(path)
    return load_file(path)


class LatentCache:
    """Latents of whole clips and of clips with the mouth hidden."""

    def __init__(self, vae: Autoencoder, mask: torch.Tensor, folder: Path) -> None:
        """mask: (r, r), 1 = regenerate."""
        self.vae, self.mask, self.folder = vae, mask, folder
        self.network = module_digest(vae)

    def __call__(self, clip: ClipCrops) -> tuple[torch.Tensor, torch.Tensor]:
        """latents, masked: (4, f, h, w) float16, scaled."""
        contents = [self.network, self.mask.numpy().tobytes(), np.ascontiguousarray(clip.crops).tobytes()]
        found = cached(self.folder, contents, lambda: self._make(clip))
        return found["latents"], found["masked"]

    def _make(self, clip: ClipCrops) -> Tensors:
        encoded = encode_clip(clip, self.vae, self.mask)
        return {"latents": encoded.latents.contiguous(), "masked": encoded.masked.contiguous()}


class FeatureCache:
    """Rows of a frozen audio encoder for whole clips."""

    def __init__(self, encoder: AudioEncoder, folder: Path) -> None:
        assert isinstance(encoder, torch.nn.Module)
        self.encoder, self.folder = encoder, folder
        self.network = module_digest(encoder)

    def __call__(self, waveform: np.ndarray) -> torch.Tensor:
        """waveform: (samples,) at 16 kHz -> (steps, levels, width) float16."""
        contents = [self.network, np.ascontiguousarray(waveform).tobytes()]
        return cached(self.folder, contents, lambda: {"rows": self.encoder.encode(waveform).half().cpu()})["rows"]
