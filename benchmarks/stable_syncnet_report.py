"""The table and the curves of `stable_syncnet.py`, from the logs of its runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stable_syncnet_measures as measures
from run_logs import smoothed, updates, validations

from latentsync.evaluation.articulation import spread

if TYPE_CHECKING:
    from stable_syncnet import Run

SMOOTHED = 2048  # pairs that a point of a loss curve is the mean of
LEFT = 0.65  # loss from which a run counts as having left ln 2
FIGURES = ("accuracy", "auc", "offset_accuracy", "clip_offset_accuracy")


def curves(folder: Path, run: Run, speakers: str, before: int) -> dict[str, Any]:
    """What the log of a run says, by the pairs seen. speakers: that it was trained on; before: see `Run`"""
    done, checks = updates(folder), validations(folder, "accuracy")
    ends, losses = smoothed([line["loss"] for line in done], max(1, SMOOTHED // run.batch))
    seconds = sum(run.batch / line["samples_per_second"] for line in done)
    pairs = [before + end * run.batch for end in ends]
    left = next((seen for seen, loss in zip(pairs, losses, strict=True) if loss < LEFT), None)
    return {
        "title": run.title,
        "speakers": speakers,
        "pairs_before": before,
        "updates": len(done),
        "minutes": seconds / 60,
        "loss": {"pairs": pairs, "values": losses},
        "left_ln2_after_pairs": left,
        "by_speaker": measures.kept(folder),
        "held_out": [{"pairs": before + line["step"] * run.batch, **_figures(line)} for line in checks],
    }


def _figures(line: dict[str, Any]) -> dict[str, float]:
    return {name: line[f"validation/{name}"] for name in FIGURES if f"validation/{name}" in line}


def picture(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Training loss and held-out accuracy of all runs, by pairs seen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in found.values():
        left.plot([pairs / 1000 for pairs in run["loss"]["pairs"]], run["loss"]["values"], label=run["title"])
        right.plot([c["pairs"] / 1000 for c in run["held_out"]], [100 * c["accuracy"] for c in run["held_out"]])
    left.axhline(math.log(2), color="grey", linestyle=":")
    left.set(xlabel="thousands of pairs seen", ylabel="training loss (dotted: ln 2)")
    right.set(xlabel="thousands of pairs seen", ylabel="right answers on held-out pairs, %")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def row(run: dict[str, Any]) -> list[str]:
    """One line of the table."""
    last = run["held_out"][-1]
    left = run["left_ln2_after_pairs"]
    shares = [f"{100 * last[name]:.1f}" if name in last else "" for name in FIGURES]
    left = "" if run.get("pairs_before") else "never" if left is None else str(left)
    asked = list(run.get("by_speaker", {}).values())
    over = spread([100 * share for share in asked])
    each = f"{over.mean:.1f} [{over.low:.1f}, {over.high:.1f}] ({len(asked)})" if asked else ""
    return [run["title"], run["speakers"], str(run["updates"]), f"{run['minutes']:.1f}", left, each, *shares]


HEADER = ("run", "training speakers", "updates", "minutes of training", f"pairs until the loss fell below {LEFT}")
HEADER += (
    "right answers % by held-out speaker [95 %]",
    "of 512 pairs",
    "AUC %",
    "offset found, windows %",
    "offset found, clips %",
)
