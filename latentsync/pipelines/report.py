"""What happened: a summary, and one row a frame that goes to disk as it comes."""

from __future__ import annotations

import json
import platform
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import torch

from latentsync.media.outputs import PrivateFile, write_failure
from latentsync.pipelines.scan import SceneCut
from latentsync.pipelines.sequences import Slot

PACKAGES = ("latentsync", "torch", "diffusers", "transformers", "av", "mediapipe", "opencv-python-headless", "numpy")
KIB = 1024


@dataclass
class DubReport:
    """Summary of a job.

    frames_skipped: frames that passed through untouched, by reason; joints: places where a looped video starts again
    scene_cuts: where the picture begins a new scene, so that tracks end; none where the frames were tracked by others
    seconds: by stage, of work in three threads at once, so their sum may exceed `total_seconds`
    peak_memory_mib: largest resident size of the process so far; None where the system does not tell
    peak_device_memory_mib: the same of the CUDA card, None elsewhere
    """

    video: str
    audio: str
    out: str
    checkpoint: str
    checkpoint_digest: str
    device: str
    precision: str
    options: dict[str, Any]
    fps: float = 0.0
    frames_in: int = 0
    frames_out: int = 0
    frames_dubbed: int = 0
    frames_skipped: dict[str, int] = field(default_factory=dict)
    tracks: int = 0
    joints: int = 0
    scene_cuts: list[SceneCut] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    total_seconds: float = 0.0
    peak_memory_mib: float | None = None
    peak_device_memory_mib: float | None = None
    events: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    report: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class FrameCounts:
    """Counts over the frames that left the stream; its size does not depend on their number."""

    def __init__(self) -> None:
        self.frames_in = self.frames_out = self.dubbed = self.tracks = self.joints = 0
        self.skipped: Counter[str] = Counter()
        self._track: int | None = None

    def add(self, slot: Slot) -> None:
        """One more frame."""
        item = slot.shot.item
        self.frames_out += 1
        self.frames_in = max(self.frames_in, item.frame.index + 1)
        self.joints += item.joint
        track = None if slot.shot.face is None else slot.shot.face.track
        self.tracks += track is not None and track != self._track
        self._track = track
        if slot.result is None:
            self.skipped[slot.shot.reason] += 1
        else:
            self.dubbed += 1

    def fill(self, report: DubReport) -> None:
        """Put the counts into a report."""
        report.frames_in, report.frames_out, report.frames_dubbed = self.frames_in, self.frames_out, self.dubbed
        report.frames_skipped, report.tracks, report.joints = dict(self.skipped), self.tracks, self.joints


class FrameLog:
    """A JSON report whose rows are written as frames leave, in a private file that is renamed when all is well."""

    def __init__(self, path: str | Path) -> None:
        """raises: InputError when the report cannot be written there"""
        self.path = Path(path)
        try:
            self._private = PrivateFile(self.path)
            self._file: TextIO = self._private.path.open("w", encoding="utf-8")
        except OSError as error:
            raise write_failure(self.path, error) from error
        self._file.write('{"frames": [')
        self._rows = 0

    def __enter__(self) -> FrameLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # closing flushes once more where the disk is full; the file is thrown away
            self._file.close()
        self._private.remove()

    def add(self, slot: Slot) -> None:
        """A row about one frame."""
        self._write("\n" if self._rows == 0 else ",\n")
        self._write(json.dumps(frame_row(slot), ensure_ascii=False))
        self._rows += 1

    def finish(self, summary: DubReport) -> None:
        """Add the summary after the rows and give the file its name."""
        inside = json.dumps(summary.as_json(), ensure_ascii=False, indent=1).removeprefix("{")
        self._write("\n],\n" + inside.lstrip("\n") + "\n")
        try:
            self._file.close()
            self._private.publish()
        except OSError as error:
            raise write_failure(self.path, error) from error

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise write_failure(self.path, error) from error


def frame_row(slot: Slot) -> dict[str, Any]:
    """What is told about one frame. Times in seconds, boxes in pixels: left, top, right, bottom."""
    item, face = slot.shot.item, slot.shot.face
    row: dict[str, Any] = {"frame": item.out_index, "time": round(item.out_time, 6), "source": item.frame.index}
    if item.joint:
        row["joint"] = True
    if face is not None:
        row |= {"box": [round(float(side), 1) for side in face.box], "track": face.track}
    row["dubbed"] = slot.result is not None
    if slot.result is None:
        row["why"] = slot.shot.reason
    return row


def versions() -> dict[str, str]:
    """Versions of what the result may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # extras may be absent
    return found


def device_memory_mib(device: torch.device) -> float | None:
    """Most memory that tensors took on a CUDA card so far, in MiB; None on another device."""
    return torch.cuda.max_memory_allocated(device) / KIB**2 if device.type == "cuda" else None


def peak_memory_mib() -> float | None:
    """Largest resident size of this process so far, in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / KIB**2 if sys.platform == "darwin" else peak / KIB
