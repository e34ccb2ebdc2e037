"""What `unisync.py` found: tables of both protocols, the ordering beside the paper's, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from run_logs import smoothed, updates, validations
from unisync_training import AUDIOS, BASE, CELLS, DRAWN, KNOWN, MARGINS, PAIRS, RECORDED, SHARES, VISUALS, run_name

GROUPS = {
    DRAWN: "Drawn people that nothing was trained on",
    RECORDED: "Recorded speakers that no UniSync saw",
    KNOWN: "The one recorded speaker with minutes in training (GRID s1), in held-out sentences; not speaker-disjoint",
}
BINARY = {
    "binary": "right answers %",
    "auc": "AUC %",
    "auc_shifted": "AUC, own sound moved",
    "auc_swapped": "AUC, another's",
}
OFFSETS = {f"offset_{context}": f"{context}" for context in (5, 7, 9, 11, 13, 15)}
PAPER = {  # binary accuracy on LRS2, %: the largest of several runs (arXiv 2503.16357)
    "features_rgb": 93.25, "features_3dmm": 91.40, "features_landmarks": 89.00, "features_parsing": 86.04,
    "mel_rgb": 91.31, "mel_3dmm": 89.00, "mel_landmarks": 86.23, "mel_parsing": 83.64,
}  # fmt: skip
PAPER_SHARES = {"share_0": 91.79, BASE: 92.18, "share_5": 91.96}  # means over representations, HuBERT
CHANCE = "Chance is 50 % for right answers and AUC, 9.7 % for offsets: the two protocols are not to be compared."
ORDERED = ("binary", "auc", "offset_5", "offset_15")
CURVE_POINTS = 40  # of a training loss

Rows = Mapping[str, Mapping[str, Any]]


class Found:
    """Measurements by cell, seed and kind of clips."""

    def __init__(self, rows: Rows, seeds: Sequence[int]) -> None:
        """rows: of `common.Measurements`, whose jobs are [run_name, kind]."""
        self.seeds = seeds
        self.rows = {(row["job"][0], row["job"][1]): row for row in rows.values()}

    def values(self, cell: str, group: str, figure: str) -> np.ndarray:
        """One number a seed that was measured."""
        found = [self.rows.get((run_name(cell, seed), group)) for seed in self.seeds]
        return np.array([row[figure] for row in found if row is not None and figure in row])

    def mean(self, cell: str, group: str, figure: str) -> float:
        """Over seeds; nan where there is none."""
        values = self.values(cell, group, figure)
        return float(values.mean()) if len(values) else math.nan


def cell_text(values: np.ndarray) -> str:
    """Mean ± standard deviation over seeds, in per cent."""
    if not len(values):
        return ""
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{spread}"


def protocol_table(found: Found, cells: Mapping[str, str], group: str, figures: Mapping[str, str]) -> str:
    """A line for every cell that was measured. cells: name -> title"""
    lines = []
    for name, title in cells.items():
        texts = [cell_text(found.values(name, group, figure)) for figure in figures]
        if any(texts):
            lines.append([title, len(found.values(name, group, next(iter(figures)))), *texts])
    return common.table(("", "seeds", *figures.values()), lines)


def both_protocols(found: Found, cells: Mapping[str, str]) -> str:
    """Tables of both protocols on both kinds of clips."""
    parts = []
    for group, told in GROUPS.items():
        if any(len(found.values(name, group, "auc")) for name in cells):
            parts.append(f"{told}: pairs\n\n{protocol_table(found, cells, group, BINARY)}")
            parts.append(f"{told}: offsets found, % at contexts of\n\n{protocol_table(found, cells, group, OFFSETS)}")
    return "\n".join(parts)


def variants() -> tuple[dict[str, str], dict[str, str]]:
    """Titles of the margins' cells and of the shares', the base among them."""
    margins = {
        name: f"{CELLS[name].form}, margins {CELLS[name].margins[0]:g} and {CELLS[name].margins[1]:g}"
        for name in ("margins_0_0", BASE, "margins_3_7", "strict_1_3")
    }
    shares = {name: f"{CELLS[name].share:g} of the negatives" for name in ("share_0", BASE, "share_5")}
    assert set(margins) | set(shares) == {*MARGINS, *SHARES, BASE}
    return margins, shares


def ordering(found: Found) -> tuple[str, list[dict[str, Any]]]:
    """Rank correlation (Spearman) of our figures with the paper's, and the mean steps that the paper's ordering has."""
    from scipy.stats import spearmanr

    lines, values = [], []
    for group in GROUPS:
        for figure in ORDERED:
            ours = {name: found.mean(name, group, figure) for name in PAIRS}
            if any(math.isnan(value) for value in ours.values()):
                continue
            rank: Any = spearmanr([PAPER[name] for name in PAIRS], [ours[name] for name in PAIRS])
            visual = {v: float(np.mean([ours[f"{a}_{v}"] for a in AUDIOS])) for v in VISUALS}
            paper = {v: float(np.mean([PAPER[f"{a}_{v}"] for a in AUDIOS])) for v in VISUALS}
            among: Any = spearmanr([paper[v] for v in VISUALS], [visual[v] for v in VISUALS])
            gain = 100 * float(np.mean([ours[f"features_{v}"] - ours[f"mel_{v}"] for v in VISUALS]))
            order = " > ".join(sorted(VISUALS, key=lambda v: -visual[v]))
            lines.append([group, figure, f"{rank.statistic:.2f} (p {rank.pvalue:.2f})", f"{among.statistic:.2f}"])
            lines[-1] += [order, f"{gain:+.1f}"]
            values.append({"group": group, "figure": figure, "spearman": rank.statistic, "p": rank.pvalue})
            values[-1] |= {"spearman_visual": among.statistic, "order": order, "features_over_mel": gain}
    paper_gain = float(np.mean([PAPER[f"features_{v}"] - PAPER[f"mel_{v}"] for v in VISUALS]))
    lines.append(["the paper, LRS2", "binary", "1", "1", " > ".join(VISUALS), f"{paper_gain:+.1f}"])
    header = ("clips", "figure", "rank correlation of the 8 pairs", "of the 4 visual", "visual, best first")
    return common.table((*header, "features less mel, points"), lines), values


def shares_beside(found: Found) -> str:
    """The paper's means for cross-speaker shares beside ours, right answers in per cent."""
    lines = []
    for name, printed in PAPER_SHARES.items():
        ours = [cell_text(found.values(name, group, "binary")) for group in GROUPS]
        lines.append([f"{CELLS[name].share:g}", f"{printed:.2f}", *ours])
    return common.table(("share", "paper, LRS2, mean over representations", *GROUPS), lines)


def curves(runs: Path, seeds: Sequence[int], batch: int) -> dict[str, dict[str, Any]]:
    """Training loss, held-out AUC and offset accuracy by update, and the minutes that updates of `batch` pairs took, of
    every run that began."""
    found = {}
    for cell in CELLS:
        for label in (run_name(cell, seed) for seed in seeds):
            if not (runs / label / "metrics.jsonl").exists():
                continue
            entries = updates(runs / label)
            losses = [entry["loss"] for entry in entries]
            checks = validations(runs / label, "auc")
            found[label] = {
                "cell": cell,
                "minutes": sum(1 / entry["samples_per_second"] for entry in entries) * batch / 60,
                "loss": smoothed(losses, max(1, len(losses) // CURVE_POINTS)),
                "auc": [(entry["step"], entry["validation/auc"]) for entry in checks],
                "offset": [(entry["step"], entry.get("validation/offset_accuracy", math.nan)) for entry in checks],
            }
    return found


def picture(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Loss, AUC and offsets of the eight pairs by update: a colour for every pair, a line for every seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4), layout="constrained")
    axes: Any = figure.subplots(1, 3)
    colours, named = {cell: f"C{number}" for number, cell in enumerate(PAIRS)}, set()
    for run in (run for run in found.values() if run["cell"] in PAIRS):
        cell = run["cell"]
        title = None if cell in named else CELLS[cell].title
        named.add(cell)
        axes[0].plot(*run["loss"], color=colours[cell], alpha=0.6)
        for axis, name in zip(axes[1:], ("auc", "offset"), strict=True):
            steps, values = zip(*run[name], strict=True) if run[name] else ((), ())
            axis.plot(steps, values, color=colours[cell], alpha=0.8, label=title)
    told = ("training loss", "held-out AUC, own sound moved", "held-out windows whose offset is found")
    for axis, title in zip(axes, told, strict=True):
        axis.set(xlabel="updates", title=title)
    if named:
        axes[1].legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
