"""Opening media files: paths of any script, nothing but local files, and every failure as one clear sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition

from latentsync.types import InputError

MICROSECONDS = 1_000_000  # the unit of a container's own duration and start time
# A playlist or a reference inside a file must not reach the network.
INPUT_OPTIONS = {"protocol_whitelist": "file,crypto,data"}
PICTURE_FORMATS = ("image2", "_pipe")  # endings of demuxer names that hold one picture
TEXT_FORMATS = ("tty",)  # draws text files as video
TRIES_WITHOUT_PROGRESS = 8  # demuxer errors in a row before a file counts as ended


def file_url(path: str | os.PathLike[str]) -> str:
    """The path as libav takes it: a colon or a scheme-like beginning in a name stays part of the name."""
    return "file:" + os.path.abspath(path)


def check_readable(path: Path) -> None:
    """Raise InputError unless `path` is a regular file with bytes that may be read."""
    if not path.exists():
        raise InputError(f"'{path}' does not exist; check the path.")
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; give a media file inside it.")
    if not path.is_file():
        raise InputError(f"'{path}' is not a regular file; copy it to a file first.")
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}); check its permissions.") from error
    if not first:
        raise InputError(f"'{path}' is empty (0 bytes); the copy or download that made it may have failed.")


def open_input(path: str | os.PathLike[str]) -> InputContainer:
    """Open a media file for reading; InputError when it is missing, unreadable or of no known format."""
    path = Path(path)
    check_readable(path)
    try:
        container = av.open(file_url(path), "r", container_options=INPUT_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"'{path}' is not a video or audio file that can be read, or its index is cut off "
            f"({error.strerror or error}); check that it plays, or export it again."
        ) from error
    if container.format.name in TEXT_FORMATS:
        container.close()
        raise InputError(f"'{path}' is a text file, not a video; give a video or audio file.")
    return container


def is_picture_file(container: InputContainer) -> bool:
    """Whether the file is one still picture (png, jpeg, webp, ...)."""
    return container.format.name.endswith(PICTURE_FORMATS)


def moving_streams(container: InputContainer) -> list[Any]:
    """Video streams that are neither cover art nor a thumbnail."""
    return [s for s in container.streams.video if not s.disposition & (Disposition.attached_pic)]


def packets(container: InputContainer, stream: Any) -> Iterator[Any]:
    """Packets of one stream and the final empty one; reading goes on behind damaged places of the container."""
    failures = 0
    while failures < TRIES_WITHOUT_PROGRESS:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except av.EOFError:
            return
        except (av.FFmpegError, OSError):
            failures += 1
