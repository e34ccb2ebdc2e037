"""The new sound track of a result: decoded, encoded and muxed alongside the pictures, at its own rate and channels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import OutputContainer

from latentsync.media.audio import AudioSource, StreamResampler, match_channels
from latentsync.types import AudioInfo

ENCODERS = {"mp4": "aac", "mov": "aac", "matroska": "flac", "webm": "libopus"}
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)  # Hz
OPUS_RATE = 48_000  # Hz, the only rate at which Opus is played
FLAC_MAX_RATE = 655_350  # Hz
BITS_PER_SAMPLE = {"aac": 4, "libopus": 3}  # a generous budget; the encoder's frame limit is 6
MAX_BITS_PER_CHANNEL = 128_000  # bits a second
COMMON_LAYOUTS = {1: "mono", 2: "stereo"}
# "6 channels" is what a file without a channel mask gives; players take it for 5.1 too.
SURROUND_LAYOUTS = {name: name for name in ("3.0", "4.0", "5.0", "5.1")} | {
    "5.0(side)": "5.0",
    "5.1(side)": "5.1",
    "6 channels": "5.1",
}
DEEP_CODECS = ("pcm_s24", "pcm_s32", "pcm_f", "flac", "alac", "wavpack")  # sources that may hold more than 16 bits


@dataclass(frozen=True)
class TrackFormat:
    """What the new track is encoded as."""

    encoder: str
    rate: int
    layout: str
    sample_format: str
    notes: tuple[str, ...]


def choose_track_format(muxer: str, source: AudioInfo) -> TrackFormat:
    """The source's rate and channels where the container's codec can; `notes` say where it cannot."""
    encoder, notes = ENCODERS[muxer], []
    rate = _nearest_rate(encoder, source.sample_rate)
    if rate != source.sample_rate:
        notes.append(f"The sound's {source.sample_rate} Hz become {rate} Hz: {encoder} has no other near it.")
    layout = COMMON_LAYOUTS.get(source.channels) or SURROUND_LAYOUTS.get(source.layout)
    if layout is None:
        notes.append(
            f"The sound's {source.channels} channels ({source.layout}) become stereo: {encoder} cannot keep them."
        )
        layout = "stereo"
    return TrackFormat(encoder, rate, layout, _sample_format(encoder, source.codec), tuple(notes))


def _nearest_rate(encoder: str, rate: int) -> int:
    if encoder == "libopus":
        return OPUS_RATE
    if encoder == "flac":
        return min(rate, FLAC_MAX_RATE)
    return next((known for known in AAC_RATES if known >= rate), AAC_RATES[-1])


def _sample_format(encoder: str, source_codec: str) -> str:
    if encoder == "flac":
        return "s32" if source_codec.startswith(DEEP_CODECS) else "s16"
    return "fltp" if encoder == "aac" else "flt"


class AudioTrack:
    """One audio stream of an open output container, fed from a file as the pictures advance."""

    def __init__(
        self,
        container: OutputContainer,
        muxer: str,
        path: str | os.PathLike[str],
        seconds: float | None,
        rest: str | os.PathLike[str] | None = None,
    ) -> None:
        """`seconds`: where the sound of `path` is cut. `rest`: a file whose sound goes on from there."""
        self._source = AudioSource(path, seconds)
        self._rest = rest
        form = self._format = choose_track_format(muxer, self._source.info)
        self.notes = list(form.notes)
        self._container = container
        self._stream: Any = container.add_stream(
            form.encoder, rate=form.rate, layout=form.layout, format=form.sample_format
        )
        self._channels = self._stream.codec_context.layout.nb_channels
        if form.encoder in BITS_PER_SAMPLE:
            bits = min(MAX_BITS_PER_CHANNEL, BITS_PER_SAMPLE[form.encoder] * form.rate)
            self._stream.codec_context.bit_rate = bits * self._channels
        self._blocks = self._converted()
        self._held: np.ndarray | None = None  # a block that reaches beyond what was asked for
        self._position = 0  # samples muxed

    def advance(self, time: float) -> None:
        """Mux the sound up to `time` (seconds)."""
        self._mux_until(round(time * self._format.rate))

    def finish(self, end: float) -> None:
        """Mux the sound up to `end` (seconds, of the pictures) and close the track."""
        self._mux_until(round(end * self._format.rate))
        self._container.mux(self._stream.encode(None))

    def _mux_until(self, stop: int) -> None:
        while self._position < stop:
            block = self._held if self._held is not None else next(self._blocks, None)
            if block is None:
                return
            take = min(block.shape[1], stop - self._position)
            self._held = block[:, take:] if take < block.shape[1] else None
            if take:  # a resampler may need more before it gives something
                self._mux(block[:, :take])

    def _mux(self, block: np.ndarray) -> None:
        frame = to_frame(block, self._format)
        frame.pts, frame.time_base = self._position, Fraction(1, self._format.rate)
        self._position += block.shape[1]
        self._container.mux(self._stream.encode(frame))

    def _converted(self) -> Iterator[np.ndarray]:
        """Blocks at the track's rate and channels: the new sound, then the rest."""
        given = 0
        for block in self._resampled(self._source):
            given += block.shape[1]
            yield block
        for block in self._resampled(AudioSource(self._rest)) if self._rest is not None else ():
            skipped = min(given, block.shape[1])
            given -= skipped
            yield block[:, skipped:]

    def _resampled(self, source: AudioSource) -> Iterator[np.ndarray]:
        resampler = StreamResampler(source.info.sample_rate, self._format.rate, self._channels)
        for block in source.blocks():
            yield resampler.push(match_channels(block, self._channels))
        if source.info.sample_rate != self._format.rate:
            yield resampler.finish()


def to_frame(block: np.ndarray, form: TrackFormat) -> av.AudioFrame:
    """(channels, samples) float32 -> a frame in the encoder's sample format."""
    samples: Any
    if form.sample_format == "fltp":
        samples = np.ascontiguousarray(block)
    else:
        samples = np.ascontiguousarray(block.T).reshape(1, -1)
    if form.sample_format in ("s16", "s32"):
        scale = 2.0**15 if form.sample_format == "s16" else 2.0**31
        dtype = np.int16 if form.sample_format == "s16" else np.int32
        whole = np.round(samples.astype(np.float64) * scale)
        samples = np.clip(whole, -scale, scale - 1).astype(dtype)
    frame = av.AudioFrame.from_ndarray(samples, format=form.sample_format, layout=form.layout)
    frame.sample_rate = form.rate
    return frame
