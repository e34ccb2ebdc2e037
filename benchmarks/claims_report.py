"""What `claims.py` found, in tables and curves: spread over seeds and clips, differences clip by clip, verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from articulation import cell
from claims_measures import DRAWN, FIGURES, NOTHING, REAL, RIGHT, Row
from claims_training import CRITICS, VARIANTS, run_name
from run_logs import smoothed, updates, validations
from scipy.stats import t as student

from latentsync.evaluation.articulation import CONFIDENCE, Spread

START = "start"
CURVES = ("noise", "sync", "trepa")
SMOOTHED = 25  # parts that a loss curve is drawn in
ON_REAL = ("sync", "sync_margin", "r_target", "r_leak", "sharpness_share")  # there is no right answer to compare with
SHOWN, REVERSED, OPEN = "shown", "the opposite was found", "not told apart"
READ = (
    "Differences clip by clip, the mean over seeds, with Student's 95 % interval over clips. "
    f"{SHOWN}: it lies on the claim's side of 0, and all seeds do. Clips are few and claims many: a row in twenty lies "
    "beside 0 by chance."
)


@dataclass(frozen=True)
class Claim:
    """`better` is to beat `worse` by `figure`."""

    text: str
    better: str
    worse: str
    figure: str


CLAIMS = (
    Claim("a pixel SyncNet improves sync", "pixel", "none", "sync_margin"),
    Claim("a pixel SyncNet improves articulation", "pixel", "none", "r_target"),
    Claim("a latent SyncNet improves sync", "latent", "none", "sync_margin"),
    Claim("pixels serve sync better than latents", "pixel", "latent", "sync_margin"),
    Claim("pixels serve articulation better than latents", "pixel", "latent", "r_target"),
    Claim("TREPA steadies the picture", "trepa", "none", "flicker"),
    Claim("TREPA steadies the picture beside a SyncNet", "pixel_trepa", "pixel", "flicker"),
    Claim("a SyncNet costs no sharpness of the mouth", "pixel", "none", "psnr_mouth"),
    Claim("UniSync improves sync", "unisync", "none", "sync_margin"),
    Claim("UniSync improves articulation", "unisync", "none", "r_target"),
    Claim("UniSync serves sync better than a pixel SyncNet", "unisync", "pixel", "sync_margin"),
    Claim("UniSync serves articulation better than a pixel SyncNet", "unisync", "pixel", "r_target"),
)


class Found:
    """Measurements by variant, seed, group and clip."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> None:
        """rows: of `common.Measurements`, whose jobs are [label, group, clip]; label: a `run_name`, or another row's"""
        self.seeds = seeds
        self.rows: dict[tuple[str, str], dict[str, Row]] = {}
        for row in rows.values():
            label, group, clip = row["job"]
            self.rows.setdefault((label, group), {})[clip] = {key: row[key] for key in FIGURES if key in row}

    def labels(self, variant: str) -> list[str]:
        """The rows that a table's line is of: one for every seed, or one for a line that has no seeds."""
        if variant not in VARIANTS:
            return [variant]
        return [run_name(variant, seed) for seed in self.seeds]

    def table(self, variant: str, group: str, figure: str) -> np.ndarray:
        """(seeds, clips), nan where there is no figure; clips in the order of their names."""
        found = [self.rows.get((label, group), {}) for label in self.labels(variant)]
        clips = sorted({clip for rows in self.rows_of(group) for clip in rows})
        return np.array([[rows.get(clip, {}).get(figure, np.nan) for clip in clips] for rows in found])

    def rows_of(self, group: str) -> list[dict[str, Row]]:
        """Of every label, by clip."""
        return [rows for (_, of), rows in self.rows.items() if of == group]

    def gaps(self, claim: Claim, group: str) -> np.ndarray:
        """(seeds, clips): what `better` has more than `worse`, nan where one of them was not measured."""
        return self.table(claim.better, group, claim.figure) - self.table(claim.worse, group, claim.figure)


def over_clips(values: np.ndarray) -> Spread:
    """values: (clips,) -> their mean with Student's 95 % interval: a bootstrap of four clips would be too narrow."""
    kept = values[np.isfinite(values)]
    reach = np.nan
    if kept.size > 1:
        reach = student.ppf((1 + CONFIDENCE) / 2, kept.size - 1) * kept.std(ddof=1) / np.sqrt(kept.size)
    centre = float(kept.mean()) if kept.size else np.nan
    deviation = float(kept.std()) if kept.size else np.nan
    return Spread(centre, deviation, centre - reach, centre + reach, kept.size, len(values) - kept.size)


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Of the finite ones; nan where there is none."""
    known = np.isfinite(values)
    counts = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def figure_cell(values: np.ndarray, digits: int) -> str:
    """values: (seeds, clips) -> "mean ± std over clips (std over seeds)"."""
    over_clips, over_seeds = mean(values, axis=0), mean(values, axis=1)
    clips, seeds = over_clips[np.isfinite(over_clips)], over_seeds[np.isfinite(over_seeds)]
    if not clips.size:
        return ""
    text = f"{clips.mean():.{digits}f} ± {clips.std():.{digits}f}"
    return f"{text} ({seeds.std():.{digits}f})" if len(seeds) > 1 else text


def figures_table(found: Found, group: str) -> str:
    """A line for every variant that was measured, between doing nothing and the right answer."""
    names = list(FIGURES) if group == DRAWN else list(ON_REAL)
    header = ("losses", "seeds", "clips", *(FIGURES[name][0] for name in names))
    lines = []
    for key in (NOTHING, START, *VARIANTS, RIGHT):
        tables = {name: found.table(key, group, name) for name in names}
        known = np.isfinite(np.stack(list(tables.values()))).any(axis=0) if tables[names[0]].size else np.zeros((0, 0))
        if not known.any():
            continue
        title = VARIANTS[key].title if key in VARIANTS else {START: "the common start"}.get(key, key)
        cells = [figure_cell(tables[name], FIGURES[name][1]) for name in names]
        lines.append([title, str(int(known.any(axis=1).sum())), str(int(known.any(axis=0).sum())), *cells])
    return common.table(header, lines)


def verdict(difference: Spread, by_seed: np.ndarray, more_is_better: bool) -> str:
    """What the interval of a difference says of the claim that it is an improvement. Seeds must agree on its sign."""
    known = by_seed[np.isfinite(by_seed)]
    sign = 1 if more_is_better else -1
    if difference.count < 2 or not (difference.low > 0 or difference.high < 0):
        return OPEN
    if (known > 0).any() and (known < 0).any():
        return OPEN
    return SHOWN if sign * difference.mean > 0 else REVERSED


def claims_table(found: Found) -> tuple[str, list[dict[str, Any]]]:
    """Every claim on both groups."""
    lines, values = [], []
    for claim in CLAIMS:
        title, digits, more = FIGURES[claim.figure]
        for group in (DRAWN, REAL):
            if group == REAL and claim.figure not in ON_REAL:
                continue
            gaps = found.gaps(claim, group)
            difference, by_seed = over_clips(mean(gaps, axis=0)), mean(gaps, axis=1)
            if difference.count:
                told = verdict(difference, by_seed, more)
                seeds = ", ".join(f"{value:.{digits}f}" for value in by_seed[np.isfinite(by_seed)])
                lines.append([claim.text, group, title, cell(difference, digits), seeds, str(difference.count), told])
                values.append({"claim": claim.text, "group": group, "figure": claim.figure, "verdict": told})
                values[-1].update(mean=difference.mean, low=difference.low, high=difference.high)
    header = ("claim", "people", "figure", "difference [95 %] ± over clips", "of each seed", "clips", "")
    return common.table(header, lines), values


def critics_table(runs: Path) -> str:
    """How good each critic became on people it was not trained on."""
    lines = []
    for name, recipe in CRITICS.items():
        if not (runs / name / "metrics.jsonl").exists():
            continue
        checks = validations(runs / name, "accuracy") or validations(runs / name, "reconstruction")
        last = checks[-1] if checks else {}
        told = {key.removeprefix("validation/"): value for key, value in last.items() if key != "step"}
        figures = ", ".join(f"{key} {value:.3f}" for key, value in told.items())
        lines.append([recipe.title, str(last.get("step", "")), figures])
    return common.table(("critic", "updates", "on held-out people"), lines)


def curves(runs: Path, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Training losses, as weighted, and held-out loss of every UNet's run that began."""
    found = {}
    for variant in VARIANTS:
        for label in (run_name(variant, seed) for seed in seeds):
            if not (runs / label / "metrics.jsonl").exists():
                continue
            entries = updates(runs / label)
            width = max(1, len(entries) // SMOOTHED)
            losses: dict[str, Any] = {
                name: smoothed([entry[f"loss/{name}"] for entry in entries], width)
                for name in CURVES
                if entries and f"loss/{name}" in entries[0]
            }
            held_out = [(entry["step"], entry["validation/loss"]) for entry in validations(runs / label, "loss")]
            found[label] = {"variant": variant, "losses": losses, "held_out": held_out}
    return found


def losses_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What each term came to, by run."""
    lines = []
    for label, run in found.items():
        ends = {name: values[-max(1, len(values) // 4) :] for name, (_, values) in run["losses"].items()}
        held_out = f"{run['held_out'][-1][1]:.4f}" if run["held_out"] else ""
        terms = [f"{np.mean(ends[name]):.2g}" if name in ends else "" for name in CURVES]
        lines.append([label.replace("_", " "), *terms, held_out])
    return common.table(("run", *CURVES, "held-out noise"), lines)


def picture(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Losses by update: a colour for every variant, a line for every seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4), layout="constrained")
    axes: Any = figure.subplots(1, len(CURVES) + 1)
    colours = {variant: f"C{number}" for number, variant in enumerate(VARIANTS)}
    named = set()
    for run in found.values():
        variant = run["variant"]
        for axis, name in zip(axes, CURVES, strict=False):
            if name in run["losses"]:
                axis.plot(*run["losses"][name], color=colours[variant], alpha=0.8)
        title = None if variant in named else VARIANTS[variant].title
        named.add(variant)
        steps = [step for step, _ in run["held_out"]]
        axes[-1].plot(steps, [loss for _, loss in run["held_out"]], color=colours[variant], label=title)
    for axis, name in zip(axes, (*(f"{name} loss, weighted" for name in CURVES), "held-out noise loss"), strict=True):
        axis.set(xlabel="updates", title=name)
    if named:
        axes[-1].legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
