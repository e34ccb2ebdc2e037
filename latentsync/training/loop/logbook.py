"""What a run tells: lines of figures in `metrics.jsonl`, TensorBoard or wandb, validation pictures and videos."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latentsync.data.synthetic import write_clip
from latentsync.training.loop.options import RunConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

METRICS = "metrics.jsonl"
VALIDATION = "validation"  # folder of pictures and videos, and prefix of the figures
STRIP_FRAMES = 8  # of a video, side by side, where a logger shows pictures only


@dataclass(frozen=True)
class Report:
    """What a validation found."""

    figures: Mapping[str, float]
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)  # (h, w, 3) uint8 RGB
    videos: Mapping[str, np.ndarray] = field(default_factory=dict)  # (f, h, w, 3) uint8 RGB, even sides, 25 fps
    stop: bool = False  # the run has got all it can get: end it here


class Logbook:
    """Writes on the main process only; every process may call it."""

    def __init__(self, accelerator: Accelerator, config: RunConfig, folder: Path, step: int) -> None:
        """step: updates done so far; what an earlier, killed run noted beyond them is taken back."""
        self.accelerator, self.config, self.folder = accelerator, config, folder
        self.pending: list[dict[str, float]] = []
        self.since = time.perf_counter()
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            self._forget_after(step)
        if config.log != "off":
            accelerator.init_trackers("latentsync", init_kwargs=self._tracker_options(step))

    def _forget_after(self, step: int) -> None:
        path = self.folder / METRICS
        if path.exists():
            lines = [line for line in path.read_text().splitlines(keepends=True) if _step(line) <= step]
            lines = lines if step else []  # a run that begins anew also validates anew
            partial = path.with_name(f".{METRICS}.partial")
            partial.write_text("".join(lines))
            partial.replace(path)

    def _tracker_options(self, step: int) -> dict[str, Any]:
        if self.config.log == "tensorboard":
            return {"tensorboard": {"purge_step": step + 1}}
        identity = hashlib.blake2b(str(self.folder.resolve()).encode(), digest_size=8).hexdigest()
        mode = "offline" if self.config.log == "wandb-offline" else "online"
        options = {"mode": mode, "dir": str(self.folder), "name": self.folder.name, "id": identity, "resume": "allow"}
        return {"wandb": options}

    def update(self, step: int, figures: dict[str, float], waited: float) -> None:
        """Note one update's figures; `waited`: seconds that it waited for its samples."""
        self.pending.append({**figures, "waited": waited})
        if step % self.config.log_every and step != self.config.steps:
            return
        names = self.pending[0]
        mean = {name: float(np.mean([entry[name] for entry in self.pending])) for name in names}
        elapsed = (time.perf_counter() - self.since) / len(self.pending)  # seconds an update
        mean["data_share"] = mean.pop("waited") / elapsed  # of the time
        mean["samples_per_second"] = self.config.batch / elapsed
        mean["memory_gib"] = peak_memory_gib(self.accelerator.device)
        self._write(step, mean)
        self.pending, self.since = [], time.perf_counter()

    def validation(self, step: int, report: Report) -> None:
        """Note what a validation found; pictures and videos also become files under `validation/`."""
        self._write(step, {f"{VALIDATION}/{name}": float(value) for name, value in report.figures.items()})
        if self.accelerator.is_main_process and (report.pictures or report.videos):
            folder = self.folder / VALIDATION / f"step_{step:08}"
            folder.mkdir(parents=True, exist_ok=True)
            for name, picture in report.pictures.items():
                self._picture(step, name, picture, folder)
            for name, video in report.videos.items():
                self._video(step, name, video, folder)
        self.since = time.perf_counter()  # validation counts neither as training nor as waiting

    def close(self) -> None:
        """Let the loggers finish; the process may start another run."""
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _write(self, step: int, figures: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            with (self.folder / METRICS).open("a") as file:
                file.write(json.dumps({"step": step, **figures}) + "\n")
        self.accelerator.log(figures, step=step)

    def _picture(self, step: int, name: str, picture: np.ndarray, folder: Path | None) -> None:
        if folder is not None:
            import cv2

            cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        for tracker in self.accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({f"{VALIDATION}/{name}": picture[None]}, step=step, **layout)  # type: ignore[attr-defined]

    def _video(self, step: int, name: str, video: np.ndarray, folder: Path) -> None:
        path = folder / f"{name}.mp4"
        write_clip(path, video)
        if self.config.log.startswith("wandb"):
            import wandb

            self.accelerator.log({f"{VALIDATION}/{name}": wandb.Video(str(path), format="mp4")}, step=step)
        else:
            self._picture(step, name, strip(video), None)


def _step(line: str) -> float:
    """The updates that a line of the metrics tells of; infinity for one that was being written when the run died."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else math.inf
    except ValueError:
        return math.inf


def strip(video: np.ndarray) -> np.ndarray:
    """(f, h, w, 3) -> (h, up to 8 w, 3): frames of a video side by side, evenly spread."""
    shown = video[np.linspace(0, len(video) - 1, min(STRIP_FRAMES, len(video))).astype(int)]
    return np.concatenate(list(shown), axis=1)


def peak_memory_gib(device: torch.device) -> float:
    """The most memory used so far: of the card where there is one, else of this process; 0 where that is not told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes that ru_maxrss counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
