"""All networks that dubbing needs, put together from one name."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from latentsync.audio.features import AudioEncoder
from latentsync.hub import remote
from latentsync.hub.audio_encoders import describe, encoder_part, read_audio_encoder
from latentsync.hub.folder import (
    BASIS,
    CONFIG,
    DIFFUSERS_WEIGHTS,
    WEIGHTS,
    Folder,
    Part,
    is_folder,
    open_folder,
    write_folder,
)
from latentsync.hub.networks import (
    PUBLISHED_RESOLUTION,
    PUBLISHED_VAE,
    UNET_FILE,
    FileName,
    locate,
    locate_vae,
    read_unet,
    read_vae,
    read_whisper,
)
from latentsync.hub.settings import Settings
from latentsync.hub.tensors import sha256_file
from latentsync.models.autoencoder import Autoencoder
from latentsync.models.stable_syncnet import StableSyncNet
from latentsync.models.unet import LatentSyncUNet
from latentsync.models.unisync import UniSync
from latentsync.types import CheckpointError

WHISPER_OF_WIDTH = {384: "tiny", 768: "small"}  # the published UNets listen to one of these
WHISPER_HOME = remote.HubName("ByteDance/LatentSync-1.5")


@dataclass(frozen=True)
class Components:
    """The networks of a checkpoint in float32 on the CPU, and how to use them."""

    unet: LatentSyncUNet
    vae: Autoencoder
    audio_encoder: AudioEncoder
    settings: Settings  # its resolution is the one that is used
    digest: str  # SHA-256 over all that was loaded
    trained_resolution: int | None = None  # pixels; None: the checkpoint does not say

    def check_resolution(self, resolution: int) -> None:
        """Warn when the networks were not trained for face crops of this side in pixels, or do not say."""
        if self.trained_resolution is None:
            told = (
                f"the checkpoint does not say for which resolution it was trained and is used at {resolution} px "
                "(LatentSync 1.5 wants 256, LatentSync 1.6 wants 512)"
            )
        elif self.trained_resolution != resolution:
            told = f"the checkpoint was trained for {self.trained_resolution} px and is used at {resolution} px"
        else:
            return
        warnings.warn(told, UserWarning, stacklevel=2)


def load_components(
    name: FileName = "embedded", *, revision: str | None = None, resolution: int | None = None
) -> Components:
    """Everything that dubbing needs.

    name: "embedded", a folder of ours, a published UNet (.pt), or a hub name (`owner/repository[@revision]`). Where a
        checkpoint holds a UNet alone, its autoencoder and Whisper are taken from beside it (`vae/`, `whisper/tiny.pt`)
        or from the hub.
    resolution: pixels, side of the face crops, when it is to be another than the checkpoint's own (warns)
    CheckpointError: something is missing, tampered with, or does not fit together.
    """
    path = locate(name, UNET_FILE, revision)
    hub_name = None if Path(name).exists() else remote.parse_name(str(name), revision)
    folder = open_folder(path) if is_folder(path) else None
    files = _Files(folder, path, hub_name)
    unet = read_unet(files.unet())
    vae, audio_encoder = read_vae(files.vae()), _read_encoder(files.audio_encoder(unet.config["cross_attention_dim"]))
    settings = folder.settings if folder else Settings()
    trained = folder.config.get("resolution") if folder else PUBLISHED_RESOLUTION.get(hub_name.repo if hub_name else "")
    used = resolution or trained or settings.resolution
    settings = replace(settings, resolution=used, audio_encoder=describe(audio_encoder))
    components = Components(unet, vae, audio_encoder, settings, files.digest(), trained_resolution=trained)
    _check_fit(components, path)
    components.check_resolution(used)
    return components


def _read_encoder(path: Path) -> AudioEncoder:
    return read_audio_encoder(path) if path.is_dir() else read_whisper(path)


def _check_fit(components: Components, path: Path) -> None:
    wanted, width = components.unet.config["cross_attention_dim"], components.audio_encoder.width
    if wanted != width:
        raise CheckpointError(f"{path}: its UNet listens to tokens of width {wanted}, its audio encoder gives {width}")
    latents, channels = components.unet.config["out_channels"], components.vae.config["latent_channels"]
    if latents != channels:
        raise CheckpointError(f"{path}: its UNet makes latents of {latents} channels, its autoencoder has {channels}")


class _Files:
    """Where each network of one checkpoint lies; remembers what was asked for."""

    def __init__(self, folder: Folder | None, path: Path, hub_name: remote.HubName | None) -> None:
        self._folder, self._path, self._hub_name = folder, path, hub_name
        self._beside = path.absolute().parent
        self._used = [] if folder is None else [path / CONFIG]

    def unet(self) -> Path:
        """The file or folder of the UNet."""
        return self._note(self._folder.part("unet") if self._folder else self._path)

    def vae(self) -> Path:
        """The folder of the autoencoder."""
        if self._folder is not None and self._folder.has("vae"):
            return self._note(self._folder.part("vae"))
        if (self._beside / "vae").is_dir():
            return self._note(self._beside / "vae")
        return self._note(self._fetched(partial(locate_vae, PUBLISHED_VAE), "its autoencoder", "vae"))

    def audio_encoder(self, width: int) -> Path:
        """The file or folder of the audio encoder; width: of the tokens that the UNet listens to."""
        if self._folder is not None and self._folder.has("audio_encoder"):
            return self._note(self._folder.part("audio_encoder"))
        if width not in WHISPER_OF_WIDTH:
            raise CheckpointError(
                f"{self._path} holds no audio encoder, and no published Whisper gives tokens of width {width} as its "
                "UNet wants: give a folder that holds its audio encoder"
            )
        file = f"whisper/{WHISPER_OF_WIDTH[width]}.pt"
        if self._hub_name is None and (self._beside / file).is_file():
            return self._note(self._beside / file)
        home = self._hub_name if self._hub_name and self._folder is None else WHISPER_HOME
        return self._note(self._fetched(partial(remote.fetch, home, file), "its Whisper encoder", file))

    def digest(self) -> str:
        """SHA-256 over the digests of all that was asked for."""
        return hashlib.sha256("\n".join(map(sha256_file, self._used)).encode()).hexdigest()

    def _note(self, path: Path) -> Path:
        inside = [path / name for name in (CONFIG, DIFFUSERS_WEIGHTS, WEIGHTS) if (path / name).is_file()]
        self._used += inside or [path]
        return path

    def _fetched(self, fetch: Callable[[], Path], what: str, place: str) -> Path:
        try:
            return fetch()
        except CheckpointError as error:
            raise CheckpointError(
                f"{self._path} holds a UNet alone, and {what} is not beside it: put it at {self._beside / place}, "
                f"or let it be fetched ({error})"
            ) from error


def save_folder(
    path: FileName,
    *,
    unet: LatentSyncUNet | None = None,
    vae: Autoencoder | None = None,
    audio_encoder: AudioEncoder | None = None,
    stable_syncnet: StableSyncNet | None = None,
    unisync: UniSync | None = None,
    settings: Settings,
    card: str | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a folder of ours with the networks given; it appears whole or not at all, always with the same bytes.

    settings: their `audio_encoder` is taken from the encoder itself; card: the model card, markdown;
    dtype: of the weights on disk, e.g. torch.float16; None keeps them as they are.
    An older checkpoint folder at `path` is replaced; InputError when anything else is there.
    """
    parts = {name: diffusers_part(module) for name, module in (("unet", unet), ("vae", vae)) if module is not None}
    if audio_encoder is not None:
        parts["audio_encoder"] = encoder_part(audio_encoder)
        settings = replace(settings, audio_encoder=describe(audio_encoder))
    if stable_syncnet is not None:
        parts["stable_syncnet"] = Part(stable_syncnet.config, {WEIGHTS: stable_syncnet.state_dict()})
    if unisync is not None:
        basis = {} if unisync.basis is None else {BASIS: {"components": unisync.basis}}
        parts["unisync"] = Part(unisync.config, {WEIGHTS: unisync.state_dict(), **basis})
    text = card if card is not None else plain_card(Path(path).name, parts, settings.resolution)
    return write_folder(Path(path), settings.as_json(), parts, text, dtype)


def diffusers_part(module: LatentSyncUNet | Autoencoder) -> Part:
    """What is written of a network of diffusers: its arguments and its tensors."""
    arguments = inspect.signature(type(module).__init__).parameters
    config = {key: value for key, value in module.config.items() if key in arguments}
    return Part({"_class_name": type(module).__name__, **config}, {DIFFUSERS_WEIGHTS: module.state_dict()})


def plain_card(name: str, parts: Iterable[str], resolution: int | None) -> str:
    """A model card that says what is in a folder, where nobody wrote a better one."""
    size = f"trained for face crops of {resolution} px" if resolution else "of unknown training resolution"
    return f"# {name}\n\nLatentSync checkpoint with {', '.join(sorted(parts))}, {size}.\n"
