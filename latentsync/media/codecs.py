"""Which encoder and pixel format a result gets, so that its pictures stay what the source's were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
from av.codec.codec import UnknownCodecError

from latentsync.media.colors import is_rgb
from latentsync.types import InputError, VideoInfo

# Constant rate factors. Measured over real clips at "high": 43 dB RGB PSNR on the worst (small, noisy), 44 to 52 dB
# elsewhere; "small" is what people call visually good, about a third of the size.
QUALITIES = {
    "high": {"libx264": 9, "libx265": 9, "libvpx-vp9": 8},
    "small": {"libx264": 20, "libx265": 22, "libvpx-vp9": 30},
}
OPTIONS = {
    # Finer chroma: RGB fidelity hangs on it. No macroblock tree: every picture is as good as the next (it gains 0.8 dB
    # on the worst one at equal size), and x264's vectorised tree gives other bits from run to run.
    "libx264": {"preset": "veryfast", "chromaoffset": "-4", "mbtree": "0"},
    "libx265": {"preset": "veryfast", "x265-params": "log-level=none:cutree=0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "b": "0"},
}
DEEP_BITS = 10  # what sources of more than 8 bits are encoded in


@dataclass(frozen=True)
class VideoCodec:
    """An encoder and how to set it up; `notes` say where the source's format could not be kept."""

    name: str
    pixel_format: str
    options: dict[str, str]
    tag: str | None
    notes: tuple[str, ...]


def choose_video_codec(muxer: str, source: VideoInfo, quality: str) -> VideoCodec:
    """H.264 for 8-bit sources, HEVC for deeper ones, VP9 in webm; the source's chroma and depth where it can."""
    if quality not in QUALITIES:
        raise InputError(f"Unknown quality '{quality}'; choose one of {', '.join(QUALITIES)}.")
    depth, sampling = bit_depth(source.pixel_format), chroma_sampling(source.pixel_format)
    name = "libvpx-vp9" if muxer == "webm" else "libx264" if depth == 8 else "libx265"
    notes = []
    if name != "libvpx-vp9" and not divisible(sampling, source.width, source.height):
        notes.append(f"The odd size {source.width}x{source.height} is kept by 4:4:4 chroma; not every player shows it.")
        sampling = "444"
    wanted = pixel_format(sampling, depth)
    chosen = next(f for f in (wanted, pixel_format(sampling, 8), "yuv420p") if f in _formats(name))
    if bit_depth(chosen) < depth:
        notes.append(f"The source's {depth} bits a sample become 8: this {name} encodes no more.")
    options = OPTIONS[name] | {"crf": str(QUALITIES[quality][name])}
    tag = "hvc1" if name == "libx265" and muxer in ("mp4", "mov") else None  # the tag that Apple players insist on
    return VideoCodec(name, chosen, options, tag, tuple(notes))


def bit_depth(name: str) -> int:
    """8, or 10 for every pixel format deeper than that."""
    if name == "pal8":
        return 8
    return 8 if max(part.bits for part in av.VideoFormat(name).components) <= 8 else DEEP_BITS


def chroma_sampling(name: str) -> str:
    """'420', '422' or '444', whichever holds the chroma of a pixel format without loss (grey counts as 420)."""
    form = None if is_rgb(name) else av.VideoFormat(name, 16, 16)
    if form is None:
        return "444"
    if len(form.components) < 3:
        return "420"
    wide, high = form.chroma_width() == 16, form.chroma_height() == 16
    return "444" if wide else "422" if high else "420"


def pixel_format(sampling: str, depth: int) -> str:
    """The planar YUV format of libav for a chroma sampling and a bit depth."""
    return f"yuv{sampling}p" + ("" if depth == 8 else f"{depth}le")


def divisible(sampling: str, width: int, height: int) -> bool:
    """Whether a picture of this size has whole chroma samples."""
    return not (width % 2 and sampling != "444") and not (height % 2 and sampling == "420")


def _formats(name: str) -> set[str]:
    return {form.name for form in find_encoder(name).video_formats or ()}


def find_encoder(name: str) -> Any:
    """The encoder of that name; InputError when this build of PyAV has none."""
    try:
        return av.Codec(name, "w")
    except UnknownCodecError as error:
        raise InputError(
            f"This PyAV has no {name} encoder; install the wheel of PyPI (pip install --force-reinstall av)."
        ) from error
