"""How well a small StableSyncNet learns: held-out drawn speakers, held-out GRID sentences, batches, offsets.

Every run sees the same number of pairs (minutes on two cores), so a larger batch makes fewer updates; its learning rate
is that of a batch of 256 times the root of their ratio, its moving average as long in pairs. Runs again where it
stopped: finished runs are kept, a killed one goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import common
import numpy as np

from latentsync.config import load_config
from latentsync.data.crops import ClipCrops, load_clip
from latentsync.data.preparation.continuous import prepare_clip
from latentsync.data.sampling import sample_generator
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, InputError

EXAMPLE = "python benchmarks/stable_syncnet.py --only batch_256 --identities 20 --pairs 5120"
CONFIG = "stable_syncnet_small"
BATCH, LEARNING_RATE, EMA = 256, 0.001, 0.98
PART = 64  # pairs at once, in every run; the rest of a batch is accumulated
VALIDATIONS = 16  # of each run
HELD_OUT_SHARE = 5  # every fifth drawn speaker is held out
TAKES = 2  # of a drawn speaker
SECONDS, SIDE, FIRST_SEED = 3.0, 288, 1000  # of a take; its seeds
RESOLUTION = 112  # px of prepared crops
MOST_OFFSET = 8  # frames, either way, of a clip whose offset is not corrected
SMOOTHED = 2048  # pairs that a point of a loss curve is the mean of
LEFT = 0.65  # loss from which a run counts as having left ln 2
FIGURES = ("accuracy", "auc", "offset_accuracy", "clip_offset_accuracy")


@dataclass(frozen=True)
class Run:
    """One training."""

    title: str
    data: str = "drawn"  # drawn | grid
    batch: int = BATCH
    offsets: bool = False  # the sound of each training clip is moved by its own amount


RUNS = {
    "batch_64": Run("batch 64", batch=64),
    "batch_256": Run("batch 256"),
    "batch_1024": Run("batch 1024", batch=1024),
    "offsets": Run(f"batch 256, offsets of up to {MOST_OFFSET} frames not corrected", offsets=True),
    "grid": Run("batch 256, GRID s1", data="grid"),
}


class Material:
    """Crops of drawn and recorded speakers, prepared once."""

    def __init__(self, crops: Path, identities: int, size: int) -> None:
        self.crops, self.identities, self.size = crops, identities, size

    def clips(self, data: str) -> tuple[list[ClipCrops], list[ClipCrops]]:
        """Training and held-out clips: other speakers where they are drawn, other sentences of GRID's s1."""
        if data == "grid":
            kept = set(common.held_out())
            names = [[name for name in common.grid_stems() if (name in kept) == wanted] for wanted in (False, True)]
            training, held_out = ([common.clip(name) for name in group] for group in names)
        else:
            held = range(HELD_OUT_SHARE - 1, self.identities, HELD_OUT_SHARE)
            training = list(self._drawn(sorted(set(range(self.identities)) - set(held))))
            held_out = list(self._drawn(held))
        return self._prepared(training), self._prepared(held_out)

    def _drawn(self, identities: Iterable[int]) -> Iterator[Path]:
        """Videos of drawn speakers, made where neither they nor their crops are there."""
        from latentsync.data.synthetic import SyntheticSpeaker, synthesize_speech, write_clip

        for identity in identities:
            for take in range(TAKES):
                path = common.WORK / "stable_syncnet" / "drawn" / f"synth_{identity:03}_{take}.mp4"
                if not path.exists() and not (self.crops / f"{path.stem}.npz").exists():
                    seed = FIRST_SEED + 10 * identity + take
                    speech = synthesize_speech(seed, seconds=SECONDS)
                    frames = SyntheticSpeaker(FIRST_SEED + identity, SIDE).frames(speech, seed)
                    with common.made_whole(path) as partial:
                        write_clip(partial, frames, waveform=speech.waveform)
                yield path

    def _prepared(self, videos: Sequence[Path]) -> list[ClipCrops]:
        clips = []
        for video in videos:
            try:
                prepared = (self.crops / f"{video.stem}.npz").exists()
                clip = load_clip(self.crops, video.stem) if prepared else prepare_clip(video, self.crops, RESOLUTION)
                clips.append(shrunk(clip, self.size))
            except InputError as error:
                print(f"left out: {error}")
        return clips


def shrunk(clip: ClipCrops, size: int) -> ClipCrops:
    """The clip in memory, with crops of `size` px."""
    import cv2

    crops = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in clip.crops]
    return replace(clip, crops=np.stack(crops))


def moved(clip: ClipCrops, number: int) -> ClipCrops:
    """The clip with its sound earlier or later by an amount of its own, silence where there is none."""
    frames = int(sample_generator(FIRST_SEED, number).integers(-MOST_OFFSET, MOST_OFFSET + 1))
    samples = round(frames / MODEL_FPS * AUDIO_SAMPLE_RATE)
    padded = np.pad(clip.waveform, (max(0, samples), max(0, -samples)))
    return replace(clip, waveform=padded[max(0, -samples) :][: len(clip.waveform)])


def overrides(run: Run, pairs: int, folder: Path) -> list[str]:
    """What a run changes of the configuration."""
    updates = max(1, pairs // run.batch)
    every = max(1, updates // VALIDATIONS)
    return [
        f"run_folder={folder}",
        f"run.batch={run.batch}",
        f"run.gradient_accumulation={max(1, run.batch // PART)}",
        f"run.steps={updates}",
        f"run.warmup={min(updates, max(1, updates // 20))}",
        f"run.learning_rate={LEARNING_RATE * math.sqrt(run.batch / BATCH):.6f}",
        f"run.validate_every={every}",
        f"run.save_every={every}",
        f"run.ema_decay={EMA ** (run.batch / BATCH):.5f}",
        "run.log_every=1",
    ]


def train(name: str, material: Material, pairs: int) -> dict[str, Any]:
    """Train a run, or go on with it; returns its curves and last figures."""
    from latentsync.training.runner import RunConfig
    from latentsync.training.runner import run as train_task
    from latentsync.training.stable_syncnet import make_task

    run, folder = RUNS[name], common.WORK / "stable_syncnet" / f"{name}-{pairs}-{material.identities}"
    if not (folder / "export").exists():
        config = load_config(CONFIG, overrides(run, pairs, folder))
        training, held_out = material.clips(run.data)
        if run.offsets:
            training = [moved(clip, number) for number, clip in enumerate(training)]
        print(f"{run.title}: {len(training)} clips, {len(held_out)} held out", flush=True)
        train_task(make_task(config, training, held_out), RunConfig.from_config(config.run), folder)
    return curves(folder, run)


def curves(folder: Path, run: Run) -> dict[str, Any]:
    """What `metrics.jsonl` of a run says, by the pairs seen."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in lines if "loss" in line]
    checks = [line for line in lines if "validation/accuracy" in line]
    width = max(1, SMOOTHED // run.batch)
    losses = np.array([line["loss"] for line in updates])
    smooth = [float(losses[i : i + width].mean()) for i in range(0, len(losses), width)]
    ends = [min(i + width, len(losses)) * run.batch for i in range(0, len(losses), width)]
    seconds = sum(run.batch / line["samples_per_second"] for line in updates)
    left = next((end for end, loss in zip(ends, smooth, strict=True) if loss < LEFT), None)
    return {
        "title": run.title,
        "updates": len(updates),
        "minutes": seconds / 60,
        "loss": {"pairs": ends, "values": smooth},
        "left_ln2_after_pairs": left,
        "held_out": [{"pairs": line["step"] * run.batch, **_figures(line)} for line in checks],
    }


def _figures(line: dict[str, Any]) -> dict[str, float]:
    return {name: line[f"validation/{name}"] for name in FIGURES if f"validation/{name}" in line}


def picture(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Training loss and held-out accuracy of all runs, by pairs seen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in found.values():
        left.plot(run["loss"]["pairs"], run["loss"]["values"], label=run["title"])
        right.plot([c["pairs"] for c in run["held_out"]], [100 * c["accuracy"] for c in run["held_out"]])
    left.axhline(math.log(2), color="grey", linestyle=":")
    left.set(xlabel="pairs seen", ylabel="training loss (dotted: ln 2)")
    right.set(xlabel="pairs seen", ylabel="right answers on held-out pairs, %")
    left.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def row(run: dict[str, Any]) -> list[str]:
    """One line of the table."""
    last = run["held_out"][-1]
    left = run["left_ln2_after_pairs"]
    shares = [f"{100 * last[name]:.1f}" if name in last else "" for name in FIGURES]
    return [run["title"], str(run["updates"]), f"{run['minutes']:.1f}", "never" if left is None else str(left), *shares]


HEADER = ("run", "updates", "minutes of training", f"pairs until the loss fell below {LEFT}", "right answers %")
HEADER += ("AUC %", "offset found, windows %", "offset found, clips %")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    crops = common.WORK / "stable_syncnet" / "crops"
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS), help="runs (default: all)")
    parser.add_argument("--pairs", type=int, default=98_304, help="that each run sees (default: 98304)")
    parser.add_argument("--identities", type=int, default=100, help="drawn speakers, a fifth held out (default: 100)")
    parser.add_argument("--crops", type=Path, default=crops, help=f"folder of prepared clips (default: {crops})")
    return parser.parse_args()


def main() -> None:
    """Train what is missing and write `results/stable_syncnet.md`."""
    arguments = parse()
    size = load_config(CONFIG).input.size
    material, found, started = Material(arguments.crops, arguments.identities, size), {}, time.monotonic()
    for name in arguments.only:
        found[name] = train(name, material, arguments.pairs)
        print(f"{row(found[name])} after {(time.monotonic() - started) / 60:.0f} minutes", flush=True)
    picture(found, common.RESULTS / "stable_syncnet.png")
    text = (
        f"# StableSyncNet at our scale\n\n`{CONFIG}`, {arguments.pairs} pairs a run; {arguments.identities} drawn "
        f"speakers, every {HELD_OUT_SHARE}th held out, or GRID s1 without its held-out sentences\n\n"
        f"{common.machine()}\n\n{common.table(HEADER, [row(run) for run in found.values()])}\n"
        "Right answers: cosine above 0.5 or not, over fixed held-out pairs, half of them from the same clip at least "
        "5 frames away. Offset found: within one frame of the truth.\n\n![curves](stable_syncnet.png)\n"
    )
    common.write_results("stable_syncnet", text, found)


if __name__ == "__main__":
    main()
