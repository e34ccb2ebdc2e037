"""What is computed once for exact contents by an exact network, and kept on disk: latents and audio features.

The name of a file is the digest of what went in, so clips of one name never share, and any number of processes may
fill one folder.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save

from latentsync.audio.features import AudioEncoder
from latentsync.data.arrays import Array, StoredTensor, reading
from latentsync.data.augmentation import Look
from latentsync.data.crops import ClipCrops
from latentsync.data.preparation.store import Unwritable
from latentsync.data.sampling import pixels
from latentsync.diffusion.conditioning import mask_pixels
from latentsync.hub.tensors import module_digest
from latentsync.media.outputs import DISK_FULL
from latentsync.models import autoencoder
from latentsync.models.autoencoder import Autoencoder
from latentsync.models.precision import computes_in_bf16

Tensors = dict[str, torch.Tensor]
ENCODED_AT_ONCE = 16  # frames
ROWS = "rows"  # of features, in their file


def cached(folder: Path, contents: Sequence[bytes], make: Callable[[], Tensors]) -> Tensors:
    """What `make` makes of `contents`, from `folder` where it has been made before; memory-mapped. InputError as
    `kept`, and where the file is damaged."""
    path = kept(folder, contents, make)
    with reading(path):
        return load_file(path)


def kept(folder: Path, contents: Sequence[bytes], make: Callable[[], Tensors]) -> Path:
    """The file in `folder` with what `make` makes of `contents`; made where it is not there. Unwritable where the
    machine does not let it be kept."""
    path = _place(folder, contents)
    if not path.exists():
        _write(path, make())
    return path


def _write(path: Path, made: Tensors) -> None:
    """Whole or not at all. Containers that share a disk have processes of one number, so the name is drawn, and what
    others leave is not touched: whether they live cannot be told from here."""
    partial = path.with_name(f".{secrets.token_hex(8)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(save(made))  # `save_file` tells a full disk by an error of its own kind, without a number
        partial.replace(path)
    except OSError as error:
        remedy = "make room" if error.errno in DISK_FULL else "make it a folder that may be written"
        raise Unwritable(
            f"the cache '{path.parent}' cannot be written ({error}): {remedy}, or set data.cache_folder"
        ) from error
    finally:
        with suppress(OSError):  # what kept it from being written keeps it from being removed
            partial.unlink(missing_ok=True)


def _place(folder: Path, contents: Sequence[bytes]) -> Path:
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(hashlib.blake2b(content).digest())
    return folder / f"{digest.hexdigest()}.safetensors"


@torch.no_grad()
def encoded(vae: Autoencoder, crops: np.ndarray, see: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Latents of crops (f, r, r, 3) uint8, a few frames at once: (b, 4, f, h, w), scaled, on the CPU.

    see: pixel values (1, f, 3, r, r) -> (b, f, 3, r, r), what of them is encoded
    """
    parts = []
    for first in range(0, len(crops), ENCODED_AT_ONCE):
        images = see(pixels(crops[first : first + ENCODED_AT_ONCE])[None])
        parts.append(autoencoder.encode(vae, images.to(vae.device)).cpu())
    return torch.cat(parts, dim=2)


class LatentCache:
    """Latents of whole clips and of clips with the mouth hidden."""

    def __init__(self, vae: Autoencoder, mask: torch.Tensor, folder: Path) -> None:
        """mask: (r, r), 1 = regenerate."""
        self.vae, self.mask, self.folder = vae, mask, folder
        self.network = module_digest(vae)

    def __call__(self, clip: ClipCrops, look: Look | None = None) -> tuple[StoredTensor, StoredTensor]:
        """latents, masked: (4, f, h, w) float16, scaled; of the clip with another look where one is given."""
        contents = [self.network, self.mask.numpy().tobytes(), clip.picture_contents]
        if look is not None:
            contents.append(look.contents)
        path = kept(self.folder, contents, lambda: self._make(np.asarray(clip.crops), look))
        return StoredTensor(path, "latents"), StoredTensor(path, "masked")

    def _make(self, crops: np.ndarray, look: Look | None) -> Tensors:
        device = self.vae.device
        with torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bf16(device)):
            latents, masked = encoded(self.vae, look(crops) if look else crops, self._whole_and_hidden)
        return {"latents": latents.half().contiguous(), "masked": masked.half().contiguous()}

    def _whole_and_hidden(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images, mask_pixels(images, self.mask)])


class FeatureCache:
    """Rows of a frozen audio encoder for whole clips."""

    def __init__(self, encoder: AudioEncoder, folder: Path) -> None:
        assert isinstance(encoder, torch.nn.Module)
        self.encoder, self.folder = encoder, folder
        self.network = module_digest(encoder)

    def __call__(self, waveform: Array) -> torch.Tensor:
        """waveform: (samples,) at 16 kHz -> (steps, levels, width) float16, 50 a second."""
        return self.stored(waveform)[:]

    def stored(self, waveform: Array) -> StoredTensor:
        """The same, left on disk."""
        samples = np.asarray(waveform)
        path = kept(self.folder, [self.network, samples.tobytes()], lambda: {ROWS: self._rows(samples)})
        return StoredTensor(path, ROWS)

    def _rows(self, samples: np.ndarray) -> torch.Tensor:
        return self.encoder.encode(samples).half().cpu().contiguous()
