"""What a run folder tells of its run, for the card of the weights that come out of it."""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file

from latentsync.config import load_config
from latentsync.hub.card import Curve, RunFacts
from latentsync.hub.folder import DIFFUSERS_WEIGHTS, is_folder
from latentsync.hub.share import CURVES, EXAMPLES
from latentsync.media.reader import VideoReader
from latentsync.training.logbook import METRICS, VALIDATION, strip
from latentsync.training.provenance import base_model, data_facts, own_name, without_paths
from latentsync.training.records import CONFIG, RECORD
from latentsync.training.runner import EXPORT
from latentsync.types import InputError

LAST_STAGE = Path("stage2") / "averaged.safetensors"  # of `training.embedded`: what its export is made of
UNET_PREFIX = "unet."  # of the UNet's tensors in it
PANEL = (5.0, 3.4)  # inches
PANELS_A_ROW, DOTS = 3, 80  # dots an inch
LOG_FROM = 10.0  # ratio of the highest to the lowest value from which an axis counts in powers
PLAIN_NAME = re.compile(r"[^\w.-]+")  # what a picture's name shall not hold


@dataclass(frozen=True)
class TrainedRun:
    """Finished weights, and the folder of the run that they came from; None where there is none."""

    weights: Path
    folder: Path | None


def find_run(path: Path) -> TrainedRun:
    """The checkpoint folder of a run of `train/`, or `path` itself where it is one.

    InputError says what to do where there are no finished weights.
    """
    if is_folder(path):
        of_run = path.name == EXPORT and (path.parent / CONFIG).is_file() and (path.parent / RECORD).is_file()
        return TrainedRun(path, path.parent if of_run else None)
    if is_folder(path / EXPORT):
        return TrainedRun(path / EXPORT, path)
    if not (path / CONFIG).is_file():
        raise InputError(
            f"'{path}' is neither a run folder ({CONFIG}, {EXPORT}) nor a checkpoint folder of ours: give the "
            "run_folder of a training"
        )
    config = load_config(path / CONFIG)
    if OmegaConf.select(config, "export.folder"):
        return TrainedRun(_exported(path, Path(config.export.folder)), path)
    if (path / EXPORT).exists():
        raise InputError(f"'{path / EXPORT}' is no checkpoint folder of ours: such weights are shared by hand")
    raise InputError(
        f"'{path}' has no finished weights yet ({_progress(path, config)}): give the command that trained it again, "
        f"it goes on where it stopped and ends with {path / EXPORT}"
    )


def _progress(path: Path, config: DictConfig) -> str:
    done = max((int(line["step"]) for line in _lines(path)), default=0)
    return f"{done:,} of {OmegaConf.select(config, 'run.steps') or '?'} updates are noted"


def _exported(run: Path, weights: Path) -> Path:
    """Where `training.embedded` put its result, which is outside of the run folder: it may be another run's by now."""
    if not (run / LAST_STAGE).is_file():
        raise InputError(
            f"'{run}' has no finished weights yet: give the command that trained it again, it goes on where it stopped"
        )
    if not is_folder(weights):
        raise InputError(f"'{weights}', where the run wrote its weights, is no checkpoint folder: run it again")
    made, found = load_file(run / LAST_STAGE), load_file(weights / "unet" / DIFFUSERS_WEIGHTS)
    same = all(
        (key := f"{UNET_PREFIX}{name}") in made and torch.equal(made[key].to(tensor.dtype), tensor)
        for name, tensor in found.items()
    )
    if not same:
        raise InputError(f"the weights in '{weights}' are not those of the run in '{run}': run it again, or share them")
    return weights


def read_facts(run: Path, licences: Path | None, examples: bool) -> RunFacts:
    """What a run folder says of itself; what it does not say stays empty.

    licences: a table, see `data.licences`; None takes the one beside the manifest. InputError for a damaged table.
    Warns where data are no longer there to be counted.
    """
    config, record = load_config(run / CONFIG), _record(run)
    lines = list(_lines(run))
    losses, validation = _curves(lines)
    data = data_facts(run, config, record.get("data", ""), licences)
    if data.note:
        warnings.warn(f"the card says little of the data: {data.note}", UserWarning, stacklevel=2)
    start = OmegaConf.select(config, "start_from") or ""
    return RunFacts(
        updates=_updates(config, lines),
        began_from=own_name(start),
        base_model=base_model(start),
        version=record.get("version", ""),
        git=record.get("git", ""),
        data=data,
        losses=losses,
        validation=validation,
        settings=OmegaConf.to_yaml(without_paths(config)),
        pictures=_pictures(run, losses, validation, examples),
    )


def _record(run: Path) -> dict[str, Any]:
    path = run / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _lines(run: Path) -> Iterator[dict[str, Any]]:
    path = run / METRICS
    if path.is_file():
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _updates(config: DictConfig, lines: Sequence[Mapping[str, Any]]) -> int | None:
    """Updates done; of the embedded recipe, which notes none, those of its stages, which it does to the end."""
    if lines:
        return max(int(line["step"]) for line in lines)
    stages = [OmegaConf.select(config, f"{stage}.steps") for stage in ("stage1", "stage2")]
    return sum(stages) if all(stages) else None


def _curves(lines: Sequence[Mapping[str, Any]]) -> tuple[list[Curve], list[Curve]]:
    """Losses, of a loss of one kind only the whole; and validation figures."""
    points: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in lines:
        for name, value in line.items():
            told = name == "loss" or name.startswith(("loss/", f"{VALIDATION}/"))
            if told and isinstance(value, (int, float)) and math.isfinite(value):
                points[name].append((int(line["step"]), float(value)))
    curves = {name: Curve(name.removeprefix(f"{VALIDATION}/"), *zip(*points[name], strict=True)) for name in points}
    kinds = [name for name in curves if name.startswith("loss/")]
    losses = [curves[name] for name in ("loss", *(kinds if len(kinds) > 1 else ())) if name in curves]
    return losses, [curve for name, curve in curves.items() if name.startswith(f"{VALIDATION}/")]


def _pictures(run: Path, losses: Sequence[Curve], validation: Sequence[Curve], examples: bool) -> dict[str, bytes]:
    found = {CURVES: draw_curves(losses, validation)} if losses or validation else {}
    newest = sorted((run / VALIDATION).glob("step_*"))[-1:] if examples else []
    for folder in newest:
        for path in sorted(folder.iterdir()):
            name = f"{EXAMPLES}/{PLAIN_NAME.sub('-', path.stem)}.png"
            if path.suffix == ".png":
                found[name] = path.read_bytes()
            elif path.suffix == ".mp4":
                found[name] = _png(strip(np.stack([frame.image for frame in VideoReader(path).frames()])))
    return found


def _png(picture: np.ndarray) -> bytes:
    """picture: (h, w, 3) uint8 RGB."""
    import cv2

    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def draw_curves(losses: Sequence[Curve], validation: Sequence[Curve]) -> bytes:
    """A PNG: all losses in one panel, each validation figure in one of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [("loss, while training", losses)] if losses else []
    panels += [(f"held out: {curve.name}", [curve]) for curve in validation]
    columns = min(PANELS_A_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), dpi=DOTS, layout="constrained")
    for place, (title, curves) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, place)
        for curve in curves:
            axes.plot(curve.steps, curve.values, label=curve.name, marker="." if len(curve.steps) == 1 else "")
        if len(curves) > 1:
            axes.legend(frameon=False)
        lowest, highest = (choose(choose(curve.values) for curve in curves) for choose in (min, max))
        if lowest > 0 and highest > LOG_FROM * lowest:
            axes.set_yscale("log")
        axes.set_title(title)
        axes.set_xlabel("updates")
    drawn = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(drawn, format="png")
    return drawn.getvalue()
