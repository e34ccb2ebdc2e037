"""Packets -> pictures with their presentation times, through damage: no picture is lost from the count or the clock."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from latentsync.media.containers import open_input, packets
from latentsync.media.probe import decode_or_nothing, frame_rate, video_duration, video_stream

# A file that stops this long before its header says, in seconds and in frames, counts as cut off.
CUT_OFF_SECONDS, CUT_OFF_FRAMES = 0.25, 3
MAX_WAITING_PACKETS = 256  # packets whose picture has not come yet; more than any codec delays


@dataclass(frozen=True)
class Picture:
    """One picture as stored (not rotated, not converted)."""

    time: Fraction  # seconds on the file's own clock
    duration: Fraction  # seconds
    frame: av.VideoFrame


@dataclass
class Damage:
    """Counts what is wrong with a file, for one sentence each at the end."""

    broken: int = 0
    first_broken: Fraction = Fraction(0)  # both on the file's clock, of no meaning while nothing is broken
    last_broken: Fraction = Fraction(0)
    repaired_times: int = 0

    def add_broken(self, time: Fraction) -> None:
        """One more picture that a neighbour stands in for."""
        self.first_broken = self.first_broken if self.broken else time
        self.last_broken = time
        self.broken += 1


@dataclass
class _Awaited:
    """Times of packets that went into the decoder and whose picture has not come out."""

    times: list[Fraction] = field(default_factory=list)
    failures: int = 0  # packets the decoder refused and no stand-in was given for

    def expect(self, time: Fraction | None) -> None:
        if time is not None:
            bisect.insort(self.times, time)
            del self.times[:-MAX_WAITING_PACKETS]

    def refuse(self) -> None:
        self.failures += 1

    def missing_before(self, time: Fraction | None) -> list[Fraction]:
        """Times that a refused packet left empty before `time` (None: the end). Pictures leave a decoder in order of
        time, so a packet that is still awaited then gave none; without a refused packet that is the codec's right."""
        split = len(self.times) if time is None else bisect.bisect_left(self.times, time)
        late = self.times[:split]
        self.times = [t for t in self.times[split:] if t != time]
        missing = late[-self.failures :] if self.failures else []
        self.failures -= len(missing)
        return missing


class PictureDecoder:
    """One pass over the video stream of a file, multi-threaded, from its start or from a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = Damage()

    def pictures(self, start: Fraction | None = None) -> Iterator[Picture]:
        """Pictures in order of presentation; from the key frame at or before `start` (file's clock) when given.

        A damaged picture is replaced by the last good one (at the very start by the first good one), at its own time.
        """
        with open_input(self.path) as container:
            stream = video_stream(container, self.path)
            stream.thread_type = "AUTO"
            if start is not None:
                container.seek(int(start // stream.time_base), stream=stream, backward=True)
            yield from self._in_order(self._repaired(container, stream), frame_rate(stream))

    def header_end(self) -> Fraction | None:
        """When the video ends on its own clock, counted from its first picture, as its header says."""
        with open_input(self.path) as container:
            seconds = video_duration(container, video_stream(container, self.path))
        return Fraction(seconds) if seconds else None

    def _repaired(self, container: Any, stream: Any) -> Iterator[tuple[Fraction | None, Any]]:
        """(time or None, frame) with stand-ins where the decoder refused a packet or flagged a picture."""
        awaited = _Awaited()
        good = None
        for packet in packets(container, stream):
            if packet.size and not packet.is_discard:
                awaited.expect(_seconds(packet.pts, stream.time_base))
            for frame in decode_or_nothing(packet, awaited.refuse):
                time = _seconds(frame.pts, stream.time_base)
                for missing in awaited.missing_before(time) if time is not None else ():
                    self.damage.add_broken(missing)
                    yield missing, good or frame
                if frame.is_corrupt and good is not None:
                    self.damage.add_broken(time or Fraction(0))
                else:
                    good = frame
                yield time, good
        for missing in awaited.missing_before(None) if good is not None else ():
            self.damage.add_broken(missing)
            yield missing, good

    def _in_order(self, frames: Iterator[tuple[Fraction | None, Any]], fps: Fraction) -> Iterator[Picture]:
        """Give every picture a time later than the one before; the nominal rate fills what the file does not say."""
        last: Fraction | None = None
        for time, frame in frames:
            nominal = _duration(frame, fps)
            if time is None or (last is not None and time <= last):
                self.damage.repaired_times += 1
                time = Fraction(0) if last is None else last + 1 / fps
            last = time
            yield Picture(time, nominal, frame)


def _seconds(pts: int | None, time_base: Fraction) -> Fraction | None:
    return None if pts is None else pts * time_base


def _duration(frame: av.VideoFrame, fps: Fraction) -> Fraction:
    stored = frame.duration * frame.time_base if frame.duration and frame.time_base else Fraction(0)
    return stored if 2 * stored > 1 / fps else 1 / fps  # some AVI files store one tick of a fine clock


def describe_damage(path: Path, damage: Damage, origin: Fraction) -> list[str]:
    """One sentence for damaged pictures, one for repaired times."""
    events = []
    if damage.broken:
        first, last = float(damage.first_broken - origin), float(damage.last_broken - origin)
        where = f"at {first:.2f} s" if first == last else f"between {first:.2f} and {last:.2f} s"
        events.append(
            f"'{path}': {damage.broken} damaged picture(s) {where}; the last good picture stands in for each."
        )
    if damage.repaired_times:
        events.append(f"'{path}': {damage.repaired_times} picture(s) without a usable time; the frame rate gives it.")
    return events


def describe_end(path: Path, ended: Fraction, expected: Fraction | None, fps: Fraction) -> list[str]:
    """A sentence when pictures end before the header says. Both in seconds after the first picture."""
    slack = max(Fraction(CUT_OFF_SECONDS), CUT_OFF_FRAMES / fps)
    if expected is None or ended >= expected - slack:
        return []
    return [f"'{path}' ends at {float(ended):.2f} s although its header says {float(expected):.2f} s: it is cut off."]
