"""Before and after a fine-tuning, on segments that it did not learn from: dubs, figures, pictures and a report."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from latentsync.data.preparation.store import write_whole

if TYPE_CHECKING:
    from latentsync.evaluation.articulation import Spread
    from latentsync.evaluation.mouths import MouthTrack
    from latentsync.training.finetune import FineTuned

FIGURES = {
    "r_target": "follows another's speech (r_target; 1 is perfect, 0 nothing done)",
    "r_leak": "still follows the old mouth (r_leak; 0 is perfect, 1 nothing done)",
    "psnr_mouth": "mouth region against the true one, own speech, dB",
    "sharpness_share": "sharpness of the mouth region, own speech (1 is the true one's)",
}
BEFORE, AFTER = "before", "after"
TRAINING, HELD_OUT = "training", "held out"
Losses = dict[str, list[tuple[int, float]]]
"""TRAINING and HELD_OUT -> (updates, loss) in turn"""

REPORT = "report.md"
CURVE_SIZE, DOTS = (8.0, 4.0), 100  # inches, dots an inch


@dataclass(frozen=True)
class Segment:
    """A held-out part of the video as a file of its own."""

    video: Path
    mouths: MouthTrack


@dataclass(frozen=True)
class Dubs:
    """What one checkpoint made of each segment, and how that measures."""

    own: list[Path]  # with the segment's own speech
    figures: dict[str, Spread]


class BeforeAfter:
    """The comparison of one fine-tuning; dubs that are there already are not made again."""

    def __init__(self, tuned: FineTuned, options: DictConfig, folder: Path) -> None:
        """options: the group `report` of `configs/finetune.yaml`; folder: where the report goes."""
        self.tuned, self.options, self.folder = tuned, options, folder

    def run(self) -> Path:
        """Dub, measure, draw and write; returns the report."""
        segments = self._segments()
        sides = {BEFORE: self._dubs(self.tuned.base, segments), AFTER: self._dubs(self.tuned.checkpoint, segments)}
        sheets = []
        for number, segment in enumerate(segments):
            rows = [segment.video, *(side.own[number] for side in sides.values())]
            sheets.append(self._sheet(rows, segment.mouths, f"segment_{number + 1}.png"))
        losses = read_losses(self.tuned.run)
        if best_of(losses)[0] == 0:
            told = "training never lowered the loss on what was held out, so what is exported is the checkpoint itself"
            warnings.warn(f"{told}: give more video, or change training.run.learning_rate", UserWarning, stacklevel=2)
        write_whole(self.folder / "loss.png", lambda file: draw_losses(losses, file))
        figures = {
            label: {name: asdict(found) for name, found in side.figures.items()} for label, side in sides.items()
        }
        content = {"name": self.tuned.name, "base": self.tuned.base, "held_out_loss": losses[HELD_OUT], **figures}
        write_whole(self.folder / "report.json", lambda file: file.write_text(json.dumps(content, indent=1) + "\n"))
        text = self._text({label: side.figures for label, side in sides.items()}, losses, sheets)
        write_whole(self.folder / REPORT, lambda file: file.write_text(text, encoding="utf-8"))
        return self.folder / REPORT

    def _segments(self) -> list[Segment]:
        """Held-out segments, evenly spread over what is held out."""
        from latentsync.data.preparation.excerpt import write_excerpt
        from latentsync.evaluation.mouths import mouth_track

        count = min(self.options.pairs, len(self.tuned.held_out))
        chosen = [self.tuned.held_out[int(place)] for place in np.linspace(0, len(self.tuned.held_out) - 1, count)]
        made = []
        for entry in chosen:
            path = self.folder / "true" / f"{Path(entry.clip).name[:12]}-{self.options.seconds:g}s.mp4"
            video = write_excerpt(self.tuned.manifest, entry, path, self.options.seconds)
            made.append(Segment(video, mouth_track(video)))
        return made

    def _dubs(self, checkpoint: str | Path, segments: Sequence[Segment]) -> Dubs:
        """Every segment with its own speech and with that of the next one."""
        from latentsync.evaluation.articulation import spread
        from latentsync.pipelines.dub import DubbingPipeline

        pipeline, own, rows = DubbingPipeline.from_pretrained(checkpoint), [], []
        for segment, other in zip(segments, [*segments[1:], segments[0]], strict=True):
            own.append(self._dub(pipeline, segment.video, segment.video))
            rows.append(measure(segment, other, own[-1], self._dub(pipeline, segment.video, other.video)))
        return Dubs(own, {name: spread([row[name] for row in rows]) for name in FIGURES})

    def _dub(self, pipeline: Any, video: Path, speech: Path) -> Path:
        facts = json.dumps([pipeline.components.digest, self.options.seed])
        folder = self.folder / "dubs" / hashlib.sha256(facts.encode()).hexdigest()[:12]
        out = folder / f"{video.stem}--{speech.stem}.mp4"
        if not out.exists():
            folder.mkdir(parents=True, exist_ok=True)
            pipeline.dub(video, speech, out, seed=self.options.seed, progress=False)
        return out

    def _sheet(self, videos: list[Path], mouths: MouthTrack, name: str) -> str:
        from latentsync.evaluation.sheets import contact_sheet

        write_whole(self.folder / name, lambda file: contact_sheet(videos, mouths, file))
        return name

    def _text(self, figures: dict[str, dict[str, Spread]], losses: Losses, sheets: Sequence[str]) -> str:
        """The report in markdown."""
        best = best_of(losses)
        rows = [
            f"| {told} | {_cell(figures[BEFORE][key])} | {_cell(figures[AFTER][key])} |"
            for key, told in FIGURES.items()
        ]
        rows.append(f"| held-out loss | {losses[HELD_OUT][0][1]:.4f} | {best[1]:.4f} (after {best[0]} updates) |")
        tuned = self.tuned
        used = f"--checkpoint {tuned.checkpoint}"
        if tuned.lora is not None:
            used = f"--checkpoint {tuned.base} --lora {tuned.lora}`, or with the two merged: `{used}"
        pictures = "\n\n".join(f"![{name}]({name})" for name in sheets)
        return (
            f"# {tuned.name}, fine-tuned from {tuned.base}\n\n"
            f"Mean [95 % interval] over {len(sheets)} segments of up to {self.options.seconds:g} s that nothing was "
            "learned from. They told when to stop, so other video of this person may gain a little less.\n\n"
            "| | before | after |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
            f"Dub with `latentsync dub {used} ...`\n\n"
            "![loss](loss.png)\n\n"
            "The same frames as they are, dubbed with their own speech before, and after; the mouths of all three "
            f"beneath.\n\n{pictures}\n"
        )


def _cell(found: Spread) -> str:
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def measure(segment: Segment, other: Segment, own: Path, crossed: Path) -> dict[str, float]:
    """Figures of one segment: `own` has its own speech, `crossed` that of the `other` one."""
    from latentsync.evaluation.articulation import r_target_and_leak
    from latentsync.evaluation.mouths import mouth_track
    from latentsync.evaluation.quality import compare

    made = mouth_track(crossed)
    wanted, before = (mouths.gaps_at(made.times) for mouths in (other.mouths, segment.mouths))
    target, leak = r_target_and_leak(made.gaps, wanted, before)
    pictures = compare(segment.video, own, segment.mouths)
    return {
        "r_target": target,
        "r_leak": leak,
        "psnr_mouth": pictures.psnr_mouth,
        "sharpness_share": pictures.sharpness_share,
    }


def best_of(losses: Losses) -> tuple[int, float]:
    """(updates, loss) that the exported weights come from."""
    return min(losses[HELD_OUT], key=lambda point: point[1])


def read_losses(run: Path) -> Losses:
    """(updates, loss) of a run in training and on what was held out."""
    from latentsync.training.loop.logbook import METRICS

    noted = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    keys = {TRAINING: "loss", HELD_OUT: "validation/loss"}
    return {name: [(line["step"], line[key]) for line in noted if key in line] for name, key in keys.items()}


def draw_losses(losses: Losses, path: Path) -> None:
    """Write a PNG of the curves; training ends, and the weights are taken, by the held-out one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=CURVE_SIZE, dpi=DOTS, layout="constrained")
    axes = figure.add_subplot()
    for name, marker, opacity in ((TRAINING, "", 0.4), (HELD_OUT, "o", 1.0)):
        if losses[name]:
            axes.plot(*zip(*losses[name], strict=True), label=name, marker=marker, alpha=opacity)
    axes.axvline(best_of(losses)[0], color="black", linestyle="--", linewidth=1, label="kept")
    axes.set_xlabel("updates")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")
