"""Sound on disk -> samples: blocks at the file's own rate, and the 16 kHz mono waveform that the networks hear."""

from __future__ import annotations

import os
import tempfile
import threading
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr

from latentsync.media.containers import moving_streams, open_input, packets
from latentsync.media.probe import audio_stream, decode_or_nothing, first_frame, probe_audio
from latentsync.types import AUDIO_SAMPLE_RATE, AudioInfo, InputError

MIN_GAP_SECONDS = Fraction(15, 1000)  # shorter jumps of the clock are rounding; a lost packet leaves 20 ms or more
MAX_GAP_SECONDS = 600  # a longer jump is a broken clock, not silence
FULL_SCALE = {"u1": 128.0, "i2": 2.0**15, "i4": 2.0**31}
BYTES_PER_SAMPLE = 4  # float32
SILENCE_SAMPLES = 1 << 16  # of silence in one block


class AudioSource:
    """The sound of one file at its own rate and channels, decoded in blocks, placed on its video's clock if it has one.

    `info` is what its decoder gives, `events` what was wrong with it (complete after `blocks` ended).
    Raises InputError as `probe_audio` does.
    """

    def __init__(self, path: str | os.PathLike[str], seconds: float | None = None) -> None:
        self.info: AudioInfo = probe_audio(path)
        self.seconds = seconds
        self.events: list[str] = []
        self._unclean = 0  # samples that were not finite numbers
        self._damaged = 0  # packets that did not decode

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks (channels, samples) float32 of full scale 1; the first sample belongs to the first picture's time
        when the file is a video, to the first sample of the file otherwise. At most `seconds` of them.
        """
        limit = None if self.seconds is None else round(self.seconds * self.info.sample_rate)
        position = 0
        for block in self._placed():
            block = block if limit is None else block[:, : limit - position]
            position += block.shape[1]
            if block.shape[1]:
                yield self._clean(block)
            if limit is not None and position >= limit:
                break
        if self._damaged:
            self.events.append(f"'{self.info.path}': {self._damaged} damaged packet(s) of sound became silence.")
        if self._unclean:
            self.events.append(f"'{self.info.path}': {self._unclean} sample(s) were not numbers and became silence.")

    def _clean(self, block: np.ndarray) -> np.ndarray:
        finite = np.isfinite(block)
        if finite.all():
            return block
        self._unclean += int((~finite).sum())
        return np.where(finite, block, np.float32(0))

    def _placed(self) -> Iterator[np.ndarray]:
        """Decoded blocks with silence where the file's clock jumps ahead, and without what lies before time zero."""
        rate, position = self.info.sample_rate, 0
        zero = first_picture_time(self.info.path)
        for time, block in self._decoded():
            if zero is None:
                zero = time or Fraction(0)
            ahead = 0 if time is None else round((time - zero) * rate) - position
            if (position == 0 or ahead > MIN_GAP_SECONDS * rate) and 0 < ahead <= MAX_GAP_SECONDS * rate:
                yield from silence(self.info.channels, ahead)
                position += ahead
            early = min(max(-ahead, 0), block.shape[1]) if position == 0 else 0
            position += block.shape[1] - early
            yield block[:, early:]

    def _decoded(self) -> Iterator[tuple[Fraction | None, np.ndarray]]:
        """(time on the file's clock, block at the first frame's rate and channels); damaged packets are left out."""
        resampler = None
        with open_input(self.info.path) as container:
            stream = audio_stream(container, self.info.path)
            for packet in packets(container, stream):
                for frame in decode_or_nothing(packet, self._count_damage):
                    time = None if frame.pts is None else frame.pts * frame.time_base
                    block = match_channels(to_float(frame), self.info.channels)
                    if frame.sample_rate != self.info.sample_rate:
                        if resampler is None:
                            resampler = StreamResampler(frame.sample_rate, self.info.sample_rate, self.info.channels)
                        block = resampler.push(block)
                    yield time, block

    def _count_damage(self) -> None:
        self._damaged += 1


class StreamResampler:
    """Band-limited sample rate conversion of (channels, samples) blocks with soxr; no delay, nothing to do at 1:1."""

    def __init__(self, source_rate: int, rate: int, channels: int) -> None:
        same = source_rate == rate
        self._stream = None if same else soxr.ResampleStream(source_rate, rate, channels, dtype="float32")
        self._channels = channels

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Feed a block, get what is ready; `last` flushes the end."""
        if self._stream is None:
            return block
        samples = np.ascontiguousarray(block.T[:, 0] if self._channels == 1 else block.T)
        ready = self._stream.resample_chunk(samples, last=last)
        return ready[None] if self._channels == 1 else ready.T

    def finish(self) -> np.ndarray:
        """What is still inside."""
        return self.push(np.zeros((self._channels, 0), np.float32), last=True)


class SpooledWaveform:
    """16 kHz mono float32 in [-1, 1] in a private temporary file without a name: memory stays flat with length."""

    def __init__(self, source: AudioSource) -> None:
        self._file = tempfile.TemporaryFile(prefix="latentsync-")  # noqa: SIM115 - closed by close()
        self._lock = threading.Lock()
        self._samples = 0
        rate, heard = source.info.sample_rate, 0
        resampler = StreamResampler(rate, AUDIO_SAMPLE_RATE, 1)
        try:
            for block in source.blocks():
                heard += block.shape[1]
                self._append(resampler.push(to_mono(block, source.info.layout)))
            self._append(resampler.finish())
            self._file.flush()
        except OSError as error:
            self.close()
            raise InputError(
                f"The sound of '{source.info.path}' cannot be spooled in '{tempfile.gettempdir()}' "
                f"({error.strerror}); free some space there, or point TMPDIR elsewhere."
            ) from error
        self.seconds = heard / rate
        self.events = source.events
        if not heard:
            self.close()
            raise InputError(f"'{source.info.path}' has an audio stream without samples; give a file with sound.")

    def _append(self, block: np.ndarray) -> None:
        self._file.write(np.clip(block, -1, 1).astype("<f4").tobytes())
        self._samples += block.shape[-1]

    def __len__(self) -> int:
        return self._samples

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples start..stop, zero outside the sound: (stop - start,) float32."""
        assert stop >= start, (start, stop)
        out = np.zeros(stop - start, np.float32)
        first, last = min(max(start, 0), self._samples), min(max(stop, 0), self._samples)
        if last > first:
            with self._lock:
                self._file.seek(first * BYTES_PER_SAMPLE)
                raw = self._file.read((last - first) * BYTES_PER_SAMPLE)
            out[first - start : last - start] = np.frombuffer(raw, "<f4")
        return out

    def close(self) -> None:
        """Drop the temporary file."""
        self._file.close()

    def __enter__(self) -> SpooledWaveform:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_waveform(path: str | os.PathLike[str], seconds: float | None = None) -> SpooledWaveform:
    """The sound of any audio or video file as a waveform; at most `seconds` of it. InputError as `probe_audio`."""
    return SpooledWaveform(AudioSource(path, seconds))


def write_wav(path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int) -> None:
    """Write (samples,) or (samples, channels) float in [-1, 1] as a 16-bit WAV file."""
    samples = np.atleast_2d(samples.T).T
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def first_picture_time(path: Path) -> Fraction | None:
    """When the first picture of a video file is shown, on the file's clock; None for a file without moving pictures."""
    with open_input(path) as container:
        streams = moving_streams(container)
        frame = first_frame(container, streams[0]) if streams and streams[0].codec_context else None
        return None if frame is None or frame.pts is None else frame.pts * frame.time_base


def silence(channels: int, samples: int) -> Iterator[np.ndarray]:
    """Blocks (channels, at most SILENCE_SAMPLES) of zeros."""
    for start in range(0, samples, SILENCE_SAMPLES):
        yield np.zeros((channels, min(SILENCE_SAMPLES, samples - start)), np.float32)


def to_float(frame: av.AudioFrame) -> np.ndarray:
    """A decoded frame of any sample format -> (channels, samples) float32, full scale 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale = FULL_SCALE.get(samples.dtype.str[1:])
    if scale is None:
        return samples.astype(np.float32)
    offset = scale if samples.dtype == np.uint8 else 0.0
    return ((samples.astype(np.float64) - offset) / scale).astype(np.float32)


def match_channels(block: np.ndarray, channels: int) -> np.ndarray:
    """(any, samples) -> (channels, samples): unchanged, or the mean of all on every channel."""
    if block.shape[0] == channels:
        return block
    return np.repeat(block.mean(axis=0, keepdims=True), channels, axis=0)


def to_mono(block: np.ndarray, layout: str) -> np.ndarray:
    """(channels, samples) -> (1, samples): the mean; in surround half the centre, where speech is, half the front."""
    names = [channel.name for channel in av.AudioLayout(layout).channels] if block.shape[0] > 2 else []
    if {"FL", "FR", "FC"} <= set(names):
        left, right, centre = (block[names.index(name)] for name in ("FL", "FR", "FC"))
        return (centre / 2 + (left + right) / 4)[None]
    return block.mean(axis=0, keepdims=True)
