"""The checks of `latentsync doctor`, each of which tries the thing itself."""

from __future__ import annotations

import enum
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from pathlib import Path

from latentsync.types import InputError

# Encoder -> what cannot be written without it.
ENCODERS = {
    "libx264": "mp4, mov, mkv",
    "libx265": "sources of more than 8 bits",
    "libvpx-vp9": "webm",
    "aac": "sound in mp4, mov",
    "libopus": "sound in webm",
    "flac": "sound in mkv",
}
DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "opus", "flac", "mp3", "pcm_s16le")
INDISPENSABLE = {"libx264", "aac", "h264"}  # what nearly every dub reads or writes
LOW_DISK, LOW_MEMORY = 2.0, 4.0  # GB
GB = 1e9


class Status(str, enum.Enum):
    """How a check came out: a GAP keeps dubbing from working, a NOTE is worth knowing."""

    OK = "ok"
    NOTE = "note"
    GAP = "gap"


@dataclass(frozen=True)
class Check:
    """One line of the answer; advice: what to do, "" when nothing."""

    name: str
    status: Status
    found: str
    advice: str = ""


def all_checks() -> Iterator[Check]:
    """Every check in turn; one that breaks is itself a gap."""
    for name, group in GROUPS.items():
        yield from _safely(name, group)


def _safely(name: str, group: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from group()
    except InputError as error:
        yield Check(name, Status.GAP, str(error))
    except (ImportError, OSError, RuntimeError) as error:
        yield Check(name, Status.GAP, f"{type(error).__name__}: {error}", "mend the packages above first")


def checkpoint_checks(name: str) -> Iterator[Check]:
    """Whether a checkpoint folder, here or on the hub, is whole; of a shared one also the files that are no weights."""
    yield from _safely("checkpoint", partial(_named_checkpoint, name))


def _named_checkpoint(name: str) -> Iterator[Check]:
    from latentsync.hub.card import SUMS
    from latentsync.hub.folder import is_folder, open_folder
    from latentsync.hub.networks import UNET_FILE, locate
    from latentsync.hub.share import sums_faults

    path = locate(name, UNET_FILE)
    if not is_folder(path):
        yield Check("checkpoint", Status.NOTE, f"{path} is no folder of ours: nothing says what it should hold")
        return
    listed = len(open_folder(path).config["files"])
    faults = sums_faults(path) if (path / SUMS).is_file() else []
    for fault in faults:
        yield Check("checkpoint", Status.GAP, fault, "copy the checkpoint again, all of its files")
    if not faults:
        yield Check("checkpoint", Status.OK, f"{name}, {listed} files as listed")


def packages() -> Iterator[Check]:
    """Python and every package that latentsync asks for."""
    from latentsync.cli.packages import wanted_packages

    yield Check("python", Status.OK, f"{platform.python_version()} on {platform.platform()}")
    try:
        found = list(wanted_packages())
    except metadata.PackageNotFoundError:
        yield Check("latentsync", Status.NOTE, "runs from a folder and is not installed", "pip install -e .")
        return
    for package in found:
        name = f"{package.name} (extra {package.extra})" if package.extra else package.name
        status = Status.OK if not package.problem else Status.NOTE if package.extra else Status.GAP
        command = f"pip install '{package.name}{package.wanted}'"
        if package.extra:
            command = f"pip install 'latentsync[{package.extra}]', if it is wanted"
        elif package.version is not None:
            command = f"pip install --upgrade {package.name} latentsync, with the versions of constraints.txt"
        told = ", ".join(filter(None, (package.version, package.problem)))
        yield Check(name, status, told, "" if status is Status.OK else command)


def device() -> Iterator[Check]:
    """What `--device auto --dtype auto` will choose."""
    import torch

    from latentsync.pipelines.device import choose_device, choose_dtype, precision_name

    chosen = choose_device(None)
    precision = precision_name(choose_dtype(chosen, None))
    if chosen.type == "cpu":
        slow = "long videos want a CUDA card or Apple's GPU; if this machine has one, install the torch built for it"
        yield Check("device", Status.NOTE, f"cpu, {precision}, {torch.get_num_threads()} threads", slow)
    elif chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        memory = f"{free / GB:.1f} of {total / GB:.1f} GB free"
        yield Check("device", Status.OK, f"{torch.cuda.get_device_name(chosen)}, {precision}, {memory}")
    else:
        yield Check("device", Status.OK, f"{chosen}, {precision}")


def xformers() -> Iterator[Check]:
    """Whether `--attention xformers` would run here."""
    import torch

    if util.find_spec("xformers") is None:
        yield Check("attention", Status.OK, "sdpa (xformers is not installed, nor needed)")
        return
    if not torch.cuda.is_available():
        yield Check("attention", Status.OK, "sdpa (xformers is installed but has no operator for the CPU)")
        return
    from xformers.ops import memory_efficient_attention

    one = torch.zeros(1, 8, 1, 64, device="cuda", dtype=torch.float16)
    try:
        memory_efficient_attention(one, one, one)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        yield Check("attention", Status.NOTE, f"sdpa; xformers does not run: {reason}", "leave --attention at sdpa")
        return
    yield Check("attention", Status.OK, "sdpa, and xformers runs too")


def embedded_checkpoint() -> Iterator[Check]:
    """The default checkpoint, loaded strictly and with the digests of its files compared."""
    from latentsync.hub import load_components

    loaded = load_components("embedded")
    side = loaded.settings.resolution
    yield Check("checkpoint", Status.OK, f"embedded, {side} px, every file as listed, digest {loaded.digest[:16]}")


def codecs() -> Iterator[Check]:
    """Encoders and decoders of the libav that PyAV carries."""
    import av

    unable = {name: f"{name} (for {use})" for name, use in ENCODERS.items() if not _encodes(name)}
    unable |= {name: f"{name} (to read it)" for name in DECODERS if name not in av.codecs_available}
    able = f"PyAV {av.__version__}, writes {', '.join(name for name in ENCODERS if name not in unable)}"
    if not unable:
        yield Check("codecs", Status.OK, f"{able}; reads {', '.join(DECODERS)}")
        return
    status = Status.GAP if INDISPENSABLE & set(unable) else Status.NOTE
    yield Check("codecs", status, f"{able}; without {', '.join(unable.values())}", "pip install --force-reinstall av")


def _encodes(name: str) -> bool:
    from latentsync.media.codecs import find_encoder

    try:
        find_encoder(name)
    except InputError:
        return False
    return True


def face_models() -> Iterator[Check]:
    """The face detector that dubbing takes by default, run on an empty picture."""
    import numpy as np

    from latentsync.faces.detection import default_detector

    detector = default_detector()
    detector.detect(np.zeros((64, 64, 3), np.uint8))
    version = metadata.version("mediapipe")
    yield Check("face models", Status.OK, f"{type(detector).__name__} with mediapipe {version}")


def hub() -> Iterator[Check]:
    """How names of the hub will be resolved; nothing is asked over the network."""
    from huggingface_hub import constants

    cache = constants.HF_HUB_CACHE
    if constants.HF_HUB_OFFLINE:
        advice = "unset HF_HUB_OFFLINE to fetch a checkpoint by name"
        yield Check("hub", Status.NOTE, f"offline: names are looked up in {cache} only", advice)
        return
    yield Check("hub", Status.OK, f"names are fetched once and kept in {cache}")


def space() -> Iterator[Check]:
    """Free disk here and for temporary files, and memory."""
    for name, folder in (("disk here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / GB
        low = free < LOW_DISK
        advice = "free some space: a dub of an hour takes several GB" if low else ""
        yield Check(name, Status.NOTE if low else Status.OK, f"{free:.1f} GB free in {folder}", advice)
    memory = _memory_gb()
    if memory is not None:
        low = memory < LOW_MEMORY
        advice = "use --low-memory and close other programs" if low else ""
        yield Check("memory", Status.NOTE if low else Status.OK, f"{memory:.1f} GB", advice)


def _memory_gb() -> float | None:
    """Memory of this machine; None where the system does not tell (Windows)."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB


GROUPS: dict[str, Callable[[], Iterator[Check]]] = {
    "packages": packages,
    "device": device,
    "attention": xformers,
    "checkpoint": embedded_checkpoint,
    "codecs": codecs,
    "face models": face_models,
    "hub": hub,
    "space": space,
}
