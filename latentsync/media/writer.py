"""Writing the dubbed video: one encode, the source's clock, colours and size, the new sound, and an atomic finish."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from latentsync.media.audio_track import AudioTrack
from latentsync.media.codecs import choose_video_codec
from latentsync.media.colors import Converter, apply_tags, output_tags
from latentsync.media.containers import file_url
from latentsync.media.outputs import PrivateFile, check_output, muxer_of, write_failure
from latentsync.media.probe import probe_traits
from latentsync.media.provenance import output_metadata, xmp_box
from latentsync.types import InputError, VideoInfo

# Arbitrary keys need a metadata table of their own in mp4 and mov; the index goes to the front so that playing can
# start before the whole file is there.
MP4_OPTIONS = {"movflags": "+faststart+use_metadata_tags"}


class VideoWriter:
    """Context manager; `write` takes pictures in order, leaving the block without an error publishes the file.

    `path`: .mp4, .mov, .mkv or .webm. `source`: the video whose clock, colours and shape are kept. `audio`: any file
    with sound, or None for none; it is cut at `audio_seconds` and at the end of the last picture. `keep_sound`: the
    source's own sound goes on where the new one has ended. `events`: what could not be kept.
    Raises InputError for whatever the user can do something about; then nothing new is left on disk.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: VideoInfo,
        *,
        audio: str | os.PathLike[str] | None,
        audio_seconds: float | None = None,
        quality: str = "high",
        keep_sound: bool = False,
        extra_metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self._source = Path(path), source
        check_output(self.path, [source.path, audio])
        self._muxer = muxer = muxer_of(self.path)
        self._traits = probe_traits(source.path)
        self._codec = choose_video_codec(muxer, source, quality)
        self.events = list(self._codec.notes)
        self._tags = output_tags(source)
        self._converter = Converter()
        self._private = PrivateFile(self.path)
        self._container: Any = None
        self._last_pts = -1
        self._end = 0.0  # seconds, of the last picture
        with self._guarded():
            self._open(muxer, output_metadata(self._traits.metadata, extra_metadata or {}))
            rest = source.path if keep_sound and source.has_audio else None
            self._track = AudioTrack(self._container, muxer, audio, audio_seconds, rest) if audio is not None else None

    def _open(self, muxer: str, metadata: dict[str, str]) -> None:
        options = MP4_OPTIONS if muxer in ("mp4", "mov") else {}
        self._container = av.open(file_url(self._private.path), "w", format=muxer, container_options=options)
        self._container.metadata.update(metadata)
        codec, source = self._codec, self._source
        stream = self._container.add_stream(codec.name, rate=source.fps, options=codec.options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = source.width, source.height, codec.pixel_format
        context.time_base = self._time_base()
        apply_tags(context, self._tags)
        if codec.tag:
            context.codec_tag = codec.tag
        if self._traits.sample_aspect_ratio:
            context.sample_aspect_ratio = self._traits.sample_aspect_ratio
        self._stream = stream

    def _time_base(self) -> Fraction:
        """The source's, so that its times are copied to the tick; a finer one where it is coarser than its frames."""
        base = self._traits.time_base
        return base if base * self._source.fps <= 1 else 1 / self._source.fps

    def write(self, image: np.ndarray, time: float, duration: float = 0.0) -> None:
        """Encode one upright picture (h, w, 3) uint8 RGB of the source's size, shown from `time` for `duration`
        (seconds; 0: as long as the frame rate says, which matters for the last one)."""
        assert image.shape == (self._source.height, self._source.width, 3) and image.dtype == np.uint8, image.shape
        frame = self._converter.from_rgb(image, self._codec.pixel_format, self._tags)
        base = self._time_base()
        frame.time_base = base
        frame.pts = self._last_pts = max(round(Fraction(time) / base), self._last_pts + 1)
        shown = Fraction(duration) or 1 / self._source.fps
        frame.duration = max(1, round(shown / base))
        self._end = float(frame.pts * base + shown)
        with self._guarded():
            self._container.mux(self._stream.encode(frame))
            if self._track is not None:
                self._track.advance(time)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self._abort()
            return
        with self._guarded():
            self._finish()

    def _finish(self) -> None:
        if self._last_pts < 0:
            raise InputError(f"No picture of '{self._source.path}' came through: nothing was written.")
        self._container.mux(self._stream.encode(None))
        if self._track is not None:
            self._track.finish(self._end)
            self.events += self._track.notes
        self._container.close()
        if self._muxer == "mp4":
            with self._private.path.open("ab") as file:
                file.write(xmp_box())
        self._private.publish()

    def _abort(self) -> None:
        if self._container is not None:
            with suppress(av.FFmpegError, OSError):  # the file is thrown away, so a failing end of it does not matter
                self._container.close()
        self._private.remove()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever goes wrong inside takes the unfinished file with it; what the disk says becomes a sentence."""
        try:
            yield
        except BaseException as error:
            self._abort()
            if isinstance(error, (OSError, av.FFmpegError)):
                raise write_failure(self.path, error) from error
            raise
