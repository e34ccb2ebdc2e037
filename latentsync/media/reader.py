"""Streaming video reading: upright RGB pictures, one pass, a few pictures in memory at any length."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice

import numpy as np

from latentsync.media.colors import Converter
from latentsync.media.decoder import Picture, PictureDecoder, describe_damage, describe_end
from latentsync.media.probe import Orientation, orientation_of, probe_video
from latentsync.types import Frame, VideoInfo

CHUNK_BYTES = 160 * 2**20  # decoded pictures kept at a time when reading in another order
STORED_BYTES_PER_PIXEL = 1.5  # 8-bit 4:2:0, as most decoders give
MIN_CHUNK, MAX_CHUNK = 4, 64  # pictures


class VideoReader:
    """Frames of a video in order, and, once they have been seen, in any order by seeking.

    `info` is what the file says, `events` what was wrong with it (complete when the first pass has ended).
    Raises InputError as `probe_video` does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.info: VideoInfo = probe_video(path)
        self.events: list[str] = []
        self._times = array("d")  # seconds after the first picture, by index, as far as seen
        self._origin = Fraction(0)  # the first picture's time on the file's clock, once it was seen
        self._end: float | None = None  # set by the first whole pass
        self._seekable = True
        self._damage_told = False
        self._converter = Converter()
        self._orientation: Orientation | None = None  # of the first picture, and so of all

    @property
    def frames_seen(self) -> int:
        """How many pictures have been decoded so far; all of them after a whole pass."""
        return len(self._times)

    @property
    def end_time(self) -> float:
        """Seconds from the first picture to the end of the last; known after a whole pass."""
        assert self._end is not None, "end_time is known after a whole pass"
        return self._end

    def frame_time(self, index: int) -> float:
        """Presentation time of a frame already seen, in seconds after the first."""
        return self._times[index]

    def frames(self, order: Iterable[int] | None = None) -> Iterator[Frame]:
        """All frames in order, or those of `order` (indices of frames already seen by a pass), decoded in chunks of
        bounded memory. The stream ends where decoding ends, whatever the container says of its length.
        """
        return self._all() if order is None else self._chunks(order)

    def small_frames(self, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """All pictures in order as (h, w, 3) uint8 RGB, as stored (not turned), scaled to `size` (w, h)."""
        for picture in PictureDecoder(self.info.path).pictures():
            yield self._converter.to_rgb(picture.frame, size)

    def _all(self) -> Iterator[Frame]:
        decoder, end = PictureDecoder(self.info.path), Fraction(0)
        try:
            for index, picture in enumerate(decoder.pictures()):
                self._origin = picture.time if index == 0 else self._origin
                time = picture.time - self._origin
                end = time + picture.duration
                if index == len(self._times):
                    self._times.append(float(time))
                yield Frame(index, float(time), self._upright(picture))
            if self._end is None:
                self._end = float(end)
                self.events += describe_end(self.info.path, end, decoder.header_end(), self.info.fps)
        finally:  # also where the caller needs no more frames
            self._tell_damage(decoder)

    def _tell_damage(self, decoder: PictureDecoder) -> None:
        if not self._damage_told:
            self._seekable = not decoder.damage.repaired_times
            self.events += describe_damage(self.info.path, decoder.damage, self._origin)
            self._damage_told = True

    def _chunks(self, order: Iterable[int]) -> Iterator[Frame]:
        picture_bytes = int(self.info.width * self.info.height * STORED_BYTES_PER_PIXEL)
        size = min(MAX_CHUNK, max(MIN_CHUNK, CHUNK_BYTES // picture_bytes))
        remaining = iter(order)
        while chunk := list(islice(remaining, size)):
            pictures = self._collect(set(chunk))
            for index in chunk:
                yield Frame(index, self._times[index], self._upright(pictures[index]))

    def _collect(self, wanted: set[int]) -> dict[int, Picture]:
        """Pictures by index; decodes from the key frame before the first wanted one to the last."""
        decoder = PictureDecoder(self.info.path)
        if not self._seekable:
            numbered = enumerate(islice(decoder.pictures(), max(wanted) + 1))
            return {i: picture for i, picture in numbered if i in wanted}
        return self._collect_by_time(decoder, sorted(wanted))

    def _collect_by_time(self, decoder: PictureDecoder, wanted: list[int]) -> dict[int, Picture]:
        """For each wanted index the last picture that is not later than its time (half a tick of slack)."""
        found: dict[int, Picture] = {}
        pictures = self._from(decoder, wanted[0])
        current, following = next(pictures), next(pictures, None)
        for index in wanted:
            target = self._times[index] + 1e-6
            while following is not None and float(following.time - self._origin) <= target:
                current, following = following, next(pictures, None)
            found[index] = current
        return found

    def _from(self, decoder: PictureDecoder, index: int) -> Iterator[Picture]:
        """Pictures from one not later than that of `index`; from the very start when seeking lands behind it."""
        target = self._times[index] + 1e-6
        pictures = decoder.pictures(start=self._origin + Fraction(self._times[index]))
        first = next(pictures, None)
        if first is None or float(first.time - self._origin) > target:
            yield from decoder.pictures()
            return
        yield first
        yield from pictures

    def _upright(self, picture: Picture) -> np.ndarray:
        """A decoded picture -> (h, w, 3) uint8 RGB, turned and mirrored as the display matrix says."""
        if self._orientation is None:  # asked once: a frame whose side data was looked at waits for the collector
            self._orientation = orientation_of(picture.frame)
        return turned(self._converter.to_rgb(picture.frame), self._orientation)


def turned(image: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Apply an orientation to an (h, w, 3) picture."""
    if orientation.transpose:
        image = image.transpose(1, 0, 2)
    if orientation.flip_x:
        image = image[:, ::-1]
    if orientation.flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)
