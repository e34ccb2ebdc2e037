"""What a run folder tells of its run, for the card of the weights that come out of it."""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from latentsync.config import load_config
from latentsync.hub.card import Compared, Curve, RunFacts
from latentsync.hub.folder import is_folder
from latentsync.hub.share import CURVES, EXAMPLES
from latentsync.media.reader import VideoReader
from latentsync.training.loop.logbook import METRICS, VALIDATION, strip
from latentsync.training.loop.provenance import base_model, data_facts, own_name, without_paths
from latentsync.training.loop.records import CONFIG, RECORD, read_exported
from latentsync.training.loop.runner import EXPORT
from latentsync.types import InputError

FINE_TUNED, REPORT, PREPARED = "run", "report", "prepared"  # folders in that of a fine-tuning
LAST_STEPS = (FINE_TUNED, "stage2")  # runs in the folders of a fine-tuning and of the embedded recipe
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
    for run in _runs(path):
        if is_folder(run / EXPORT):
            return TrainedRun(run / EXPORT, run)
    if not (path / CONFIG).is_file() and not (path / PREPARED).is_dir():
        raise InputError(
            f"'{path}' is neither a run folder ({CONFIG}, {EXPORT}) nor a checkpoint folder of ours: give the folder "
            "of a training"
        )
    if (path / EXPORT).exists():
        raise InputError(f"'{path / EXPORT}' is no checkpoint folder of ours: such weights are shared by hand")
    done = [int(line["step"]) for run in _runs(path) for line in _lines(run)]
    raise InputError(
        f"'{path}' has no finished weights yet ({max(done, default=0):,} updates are noted): give the command that "
        f"trained it again, it goes on where it stopped and ends with a folder {EXPORT}"
    )


def _runs(path: Path) -> list[Path]:
    """A run folder, and those that recipes of several steps have inside theirs."""
    return [path, *(path / name for name in LAST_STEPS)]


def read_facts(run: Path, licences: Path | None, examples: bool) -> RunFacts:
    """What a run folder says of itself; what it does not say stays empty.

    licences: a table, see `data.licences`; None takes the one beside the manifest. InputError for a damaged table.
    Warns where data are no longer there to be counted.
    """
    config, record, lines = load_config(run / CONFIG), _record(run), list(_lines(run))
    updates, ended = _updates(run), _ended(lines)
    losses, validation = _curves([line for line in lines if updates is None or line["step"] <= updates])
    data = data_facts(config, record.get("data", ""), licences)
    if data.note:
        warnings.warn(f"the card says little of the data: {data.note}", UserWarning, stacklevel=2)
    start = OmegaConf.select(config, "start_from") or ""
    return RunFacts(
        updates=updates,
        ended=ended,
        began_from=_began_from(start),
        base_model=base_model(start),
        version=record.get("version", ""),
        git=record.get("git", ""),
        data=data,
        losses=losses,
        validation=validation,
        comparison=_comparison(run),
        settings=OmegaConf.to_yaml(without_paths(config)),
        pictures=_pictures(losses, validation, _examples(run, updates) if examples else []),
    )


def _began_from(start: str) -> str:
    """What a run began with; of a run that is still there, with the updates that it had."""
    updates = _updates(Path(start).parent) if Path(start).name == EXPORT else None
    return own_name(start) + (f" ({updates:,} updates)" if updates is not None else "")


def _comparison(run: Path) -> list[Compared]:
    """Figures before and after a fine-tuning, from the report that lies beside its run."""
    path = run.parent / REPORT / "report.json"
    if run.name != FINE_TUNED or not path.is_file():
        return []
    told = json.loads(path.read_text(encoding="utf-8"))
    return [Compared(name, before, told["after"][name]) for name, before in told["before"].items()]


def _record(run: Path) -> dict[str, Any]:
    path = run / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _lines(run: Path) -> Iterator[dict[str, Any]]:
    path = run / METRICS
    if path.is_file():
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _updates(run: Path) -> int | None:
    """That the exported weights had; of a run from before that was noted, all that it made."""
    noted = read_exported(run)
    return _ended(_lines(run)) if noted is None else noted


def _ended(lines: Iterable[Mapping[str, Any]]) -> int | None:
    return max((int(line["step"]) for line in lines), default=None)


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


def _pictures(losses: Sequence[Curve], validation: Sequence[Curve], examples: Sequence[Path]) -> dict[str, bytes]:
    found = {CURVES: draw_curves(losses, validation)} if losses or validation else {}
    for path in examples:
        name = f"{EXAMPLES}/{PLAIN_NAME.sub('-', path.stem)}.png"
        if path.suffix == ".png":
            found[name] = path.read_bytes()
        else:
            found[name] = _png(strip(np.stack([frame.image for frame in VideoReader(path).frames()])))
    return found


def _examples(run: Path, updates: int | None) -> list[Path]:
    """Pictures and videos of the last validation before the export, and the sheets of a fine-tuning's report."""
    known = sorted((run / VALIDATION).glob("step_*"))
    newest = [path for path in known if updates is None or int(path.name.partition("_")[2]) <= updates][-1:]
    found = [path for folder in newest for path in sorted(folder.iterdir()) if path.suffix in (".png", ".mp4")]
    return found + (sorted((run.parent / REPORT).glob("segment_*.png")) if run.name == FINE_TUNED else [])


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
