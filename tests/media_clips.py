"""Small clips with known truth for the media tests: each picture carries its number, each sound its place."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from latentsync.media.audio import write_wav

WIDTH, HEIGHT = 96, 64
BITS = 8
REPEATABLE = {"crf": "12", "mbtree": "0"}  # x264's macroblock tree gives other bits from run to run
TICKS = 12_800  # of the clips' clock, a second, unless said otherwise


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(h, w, 3) uint8: the number in black and white blocks on top, a smooth coloured ramp that moves below."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    phase = 0.05 * number
    ramp = np.stack([0.5 + 0.3 * np.sin(3 * x + phase), 0.3 + 0.4 * y, 0.5 + 0.3 * np.cos(2 * y - phase)], axis=2)
    image = (255 * ramp).round().astype(np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        image[: height // 4, left:right] = 235 if number >> bit & 1 else 20
    return image


def number_of(image: np.ndarray) -> int:
    """The number in a picture."""
    height, width = image.shape[:2]
    row = image[: height // 4].mean(axis=(0, 2))
    return sum(int(row[int((bit + 0.5) * width / BITS)] > 128) << bit for bit in range(BITS))


def make_clip(
    path: Path,
    count: int = 20,
    fps: Fraction | int = 25,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: Sequence[Fraction] | None = None,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    tags: tuple[int, int, int, int] = (0, 2, 2, 2),
    sound: np.ndarray | None = None,
    sound_rate: int = 16_000,
    sound_start: Fraction = Fraction(0),
    container_options: dict[str, str] | None = None,
    ticks: int = TICKS,
) -> Path:
    """Encode `count` numbered pictures (and a mono sound) with PyAV alone, none of the package's own writing.

    `rotation`: degrees counter-clockwise in the display matrix. `tags`: range, space, primaries, transfer.
    """
    times = times or [Fraction(i) / Fraction(fps) for i in range(count)]
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        video = container.add_stream(codec, rate=fps, options=REPEATABLE | (options or {}))
        video.width, video.height, video.pix_fmt = *size, pixel_format
        context = video.codec_context
        context.time_base = Fraction(1, ticks)
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = tags
        if rotation:
            video.set_display_rotation(rotation)
        audio = None
        if sound is not None:
            audio = container.add_stream("aac", rate=sound_rate, layout="mono")
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame = frame.reformat(
                format=pixel_format, dst_colorspace=1 if tags[1] == 1 else 5, dst_color_range=tags[0]
            )
            frame.pts, frame.time_base = int(time * ticks), Fraction(1, ticks)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = sound_rate, Fraction(1, sound_rate)
            frame.pts = int(sound_start * sound_rate)
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def noise_sound(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(samples, channels) float in [-1, 1]: speech-band noise in bursts, whose place cross-correlation finds."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    spectrum = np.fft.rfft(rng.standard_normal((count, channels)), axis=0)
    frequency = np.fft.rfftfreq(count, 1 / rate)
    spectrum[(frequency < 200) | (frequency > 0.4 * min(rate, 8000))] = 0
    sound = np.fft.irfft(spectrum, count, axis=0)
    bursts = np.sin(2 * np.pi * 3.1 * np.arange(count) / rate) > -0.2
    return 0.5 * sound / np.abs(sound).max() * bursts[:, None]


def make_wav(path: Path, seconds: float, rate: int, channels: int = 1) -> Path:
    """A WAV file of `noise_sound`, or of nothing."""
    write_wav(path, noise_sound(seconds, rate, channels) if seconds else np.zeros((0, channels)), rate)
    return path


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise ratio in dB of two uint8 pictures."""
    error = ((a.astype(np.float64) - b) ** 2).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def lag_seconds(heard: np.ndarray, reference: np.ndarray, rate: int) -> float:
    """How much later `heard` is than `reference` (both (samples,)), from the peak of their cross-correlation,
    refined to a fraction of a sample by a parabola."""
    size = len(heard) + len(reference)
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(reference, size))
    correlation = np.fft.irfft(product, size)
    peak = int(correlation.argmax())
    before, top, after = (correlation[(peak + shift) % size] for shift in (-1, 0, 1))
    fraction = 0.5 * (before - after) / (before - 2 * top + after)
    return ((peak + size // 2) % size - size // 2 + fraction) / rate
