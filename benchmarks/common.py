"""What the benchmark scripts share: the machine in words, where clips and results lie, tables, cached measurements."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from latentsync.evaluation.landmarks import LandmarkTrack, landmark_track
from latentsync.evaluation.mouths import MouthTrack, mouth_track
from latentsync.types import InputError

BENCHMARKS = Path(__file__).resolve().parent
RESULTS = BENCHMARKS / "results"
WORK = BENCHMARKS.parent / "runs" / "benchmarks"  # dubs and caches, not kept with the code
HELD_OUT = BENCHMARKS / "splits" / "grid_s1_heldout.txt"
HELD_OUT_EVERY, HELD_OUT_FIRST = 8, 3  # the rule that the list was made by
VIDEO_SUFFIXES = {".mp4", ".mpg", ".avi", ".webm"}


def clips_dir() -> Path:
    """The folder of real clips beside the checkout, or in the folder that LATENTSYNC_SHARED names."""
    folder = Path(os.environ.get("LATENTSYNC_SHARED") or BENCHMARKS.parent.parent / "shared") / "clips"
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: benchmarks need real clips; LATENTSYNC_SHARED names another place")
    return folder


def clip(name: str) -> Path:
    """A clip by its stem, of GRID's speaker s1 or of the others. InputError when there is none."""
    for folder in (clips_dir(), clips_dir() / "grid_s1"):
        if found := [path for path in sorted(folder.glob(f"{name}.*")) if path.suffix in VIDEO_SUFFIXES]:
            return found[0]
    raise InputError(f"there is no clip {name} in {clips_dir()}")


def grid_stems() -> list[str]:
    """Every sentence of GRID's speaker s1, sorted."""
    return sorted(path.stem for path in (clips_dir() / "grid_s1").glob("*.mp4"))


def held_out() -> list[str]:
    """The sentences of GRID's speaker s1 that nothing is trained on."""
    lines = HELD_OUT.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def machine() -> str:
    """The machine that the figures were measured on, in one line."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA"
    busy = f"load {os.getloadavg()[0]:.1f} at the end"
    return (
        f"{os.cpu_count()} CPU cores ({_processor()}), {memory:.0f} GiB memory, {device}, {busy}; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in _lines(info) if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def parser(description: str | None, example: str) -> argparse.ArgumentParser:
    """An argument parser whose help ends with a command that can be run as it stands."""
    return argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Where to write a file that gets its name `path` only when it is complete; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    yield partial
    partial.replace(path)


def mouths_of(path: Path, seconds: float | None = None) -> MouthTrack:
    """`mouth_track` of a clip that does not change, remembered on disk."""
    span = "whole" if seconds is None else f"{seconds:g}s"
    stored = WORK / "mouths" / f"{path.parent.name}-{path.name}-{span}.npz"
    if not stored.exists():
        with made_whole(stored) as partial:
            mouth_track(path, seconds=seconds).save(partial)
    return MouthTrack.load(stored)


def landmarks_of(path: Path) -> LandmarkTrack:
    """`landmark_track` of a clip that does not change, remembered on disk."""
    stored = WORK / "landmarks" / f"{path.parent.name}-{path.name}.npz"
    if not stored.exists():
        with made_whole(stored) as partial:
            landmark_track(path).save(partial)
    return LandmarkTrack.load(stored)


def dub_in(folder: Path, name: str) -> Path | None:
    """The dub called `name` in a folder of dubs."""
    found = [path for path in sorted(folder.glob(f"{name}.*")) if path.suffix.lower() in VIDEO_SUFFIXES]
    return found[0] if found else None


def waveform_of(path: Path, seconds: float | None = None) -> np.ndarray:
    """(samples,) float32 at 16 kHz."""
    from latentsync.media.audio import read_waveform

    with read_waveform(path, seconds) as waveform:
        return waveform.read(0, len(waveform))


def frame_times(path: Path) -> np.ndarray:
    """(f,) presentation times of all frames that a file decodes to, in seconds after the first."""
    from latentsync.media.reader import VideoReader

    return np.array([frame.time for frame in VideoReader(path).frames()])


class Measurements:
    """Finished measurements, one JSON object a line; a script that is run again does only what is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = {json.dumps(row["job"]): row for row in map(json.loads, _lines(path))}

    def get(self, job: Sequence[str]) -> dict[str, Any] | None:
        """The measurement of `job`, or None."""
        return self.done.get(json.dumps(list(job)))

    def add(self, job: Sequence[str], values: dict[str, Any]) -> dict[str, Any]:
        """Append and return a measurement."""
        row = {"job": list(job), **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.done[json.dumps(list(job))] = row
        return row


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def write_results(name: str, text: str, values: Any) -> None:
    """Keep a result as `results/NAME.md` to read and `results/NAME.json` to compute with, and print it.

    text: a heading and what follows it; the command that was given comes between them
    """
    RESULTS.mkdir(exist_ok=True)
    heading, _, rest = text.partition("\n\n")
    text = f"{heading}\n\nCommand: `{shlex.join(['python', *sys.argv])}`\n\n{rest}"
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    print(text)
    print(f"written to {RESULTS / name}.md and .json")


class Sweep(Protocol):
    """Trainings that go on where they stopped."""

    def run(self) -> object:
        """Go on."""
        ...

    def dry_run(self) -> object:
        """Say how long it takes."""
        ...


def go_on(begin: Callable[[], Sweep], dry_run: bool) -> None:
    """Begin or go on with a sweep; bad input is one sentence."""
    try:
        sweep = begin()
        if dry_run:
            sweep.dry_run()
        else:
            sweep.run()
    except InputError as error:
        sys.exit(f"error: {error}")
