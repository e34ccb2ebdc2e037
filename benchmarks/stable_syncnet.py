"""How well a small StableSyncNet learns: held-out drawn speakers, held-out GRID sentences, batches, offsets.

A run sees `--pairs` crossed pairs, or as many times that as its title says (minutes on two cores), so a larger batch
makes fewer updates; its moving average is as long in pairs. Batches above 64 take a learning rate of 0.001, a batch of
64 half of it. Runs again where it stopped: finished runs are kept, also in the table, by their pairs and speakers; a
killed one goes on from its last checkpoint. `--dry-run` says how long it takes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import common
import numpy as np
import stable_syncnet_measures as measures
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from run_logs import WARM_UP, speeds
from stable_syncnet_report import HEADER, curves, picture, row

from latentsync.config import load_config
from latentsync.data.crops import ClipCrops, load_clip
from latentsync.data.preparation.continuous import prepare_clip
from latentsync.data.sampling import sample_generator
from latentsync.hub import load_stable_syncnet
from latentsync.training.loop.runner import EXPORT, RunConfig
from latentsync.training.loop.runner import run as train_task
from latentsync.training.sync.stable_syncnet import LATENTS, make_task
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, InputError

EXAMPLE = "python benchmarks/stable_syncnet.py --only batch_256 --identities 20 --pairs 5120"
CONFIG, LATENT_CONFIG = "stable_syncnet_small", "stable_syncnet_small_latent"
BATCH, LEARNING_RATE, EMA = 256, 0.001, 0.98
LEAST_WARMUP = 16  # updates: after 6 at 0.001 a network was silenced
PART = 64  # pairs at once, in every run; the rest of a batch is accumulated
TIMED = 3  # updates of PART pairs that a dry run takes the pace from
MOST_MINUTES = 15.0  # that a run should take
SHRUNK_AT_ONCE = 64  # frames
VALIDATIONS = 8  # of each run
HELD_OUT_SHARE = 5  # every fifth drawn speaker is held out
TAKES = 2  # of a drawn speaker
SECONDS, SIDE, FIRST_SEED = 3.0, 288, 1000  # of a take; its seeds
RESOLUTION = 112  # px of prepared crops
MOST_OFFSET = 8  # frames, either way, of a clip whose offset is not corrected


@dataclass(frozen=True)
class Run:
    """One training."""

    title: str
    data: str = "drawn"  # drawn | grid
    batch: int = BATCH
    offsets: bool = False  # the sound of each training clip is moved by its own amount
    crossed: bool = True  # pairs in fours, which share windows
    times: int = 1  # the windows of the others
    looks: int = 0  # other looks that each clip is encoded with
    config: str = CONFIG
    after: str | None = None  # name of the run whose weights it goes on from
    seed: int = 1  # of the pairs

    def pairs(self, pairs: int) -> int:
        """So many that it looks at `times` the windows of a run of `pairs` crossed pairs."""
        return self.times * (pairs if self.crossed else pairs // 2)

    def before(self, pairs: int) -> int:
        """Pairs that its weights had seen when it began."""
        earlier = RUNS[self.after] if self.after else None
        return earlier.before(pairs) + earlier.pairs(pairs) if earlier else 0


RUNS = {
    "batch_64": Run("batch 64", batch=64),
    "batch_256": Run("batch 256"),
    "batch_1024": Run("batch 1024, twice the windows", batch=1024, times=2),
    "latent": Run(
        "batch 64, latents of two looks, six times the windows", batch=64, times=6, looks=1, config=LATENT_CONFIG
    ),
    "latent_longer": Run(
        "the same, then batch 128 with a new learning rate, six times the windows more",
        batch=128,
        times=6,
        looks=1,
        config=LATENT_CONFIG,
        after="latent",
    ),
    "latent_longest": Run(
        "the same, then batch 256 and other pairs, four times the windows more",
        batch=256,
        times=4,
        looks=1,
        config=LATENT_CONFIG,
        after="latent_longer",
        seed=2,
    ),
    "offsets": Run(f"batch 64, offsets of up to {MOST_OFFSET} frames not corrected", batch=64, offsets=True),
    "grid": Run("batch 64, GRID s1", data="grid", batch=64),
    "one_by_one": Run("batch 256, pairs drawn one by one, half as many", crossed=False),
    "one_by_one_1024": Run("batch 1024, pairs drawn one by one, half as many", batch=1024, crossed=False),
}


@dataclass(frozen=True)
class Material:
    """Crops of drawn and recorded speakers, prepared once."""

    crops: Path
    identities: int

    def clips(self, data: str, size: int | None) -> tuple[list[ClipCrops], list[ClipCrops]]:
        """Training and held-out clips: other speakers where they are drawn, other sentences of GRID's s1.

        size: px that the network looks at, which they are held in memory at; None: as they are, on disk
        """
        if data == "grid":
            kept = set(common.held_out())
            names = [[name for name in common.grid_stems() if (name in kept) == wanted] for wanted in (False, True)]
            training, held_out = ([common.clip(name) for name in group] for group in names)
        else:
            held = range(HELD_OUT_SHARE - 1, self.identities, HELD_OUT_SHARE)
            training = list(drawn(sorted(set(range(self.identities)) - set(held)), self.crops))
            held_out = list(drawn(held, self.crops))
        return self._sized(training, size), self._sized(held_out, size)

    def _sized(self, videos: Sequence[Path], size: int | None) -> list[ClipCrops]:
        clips = prepared(videos, self.crops, RESOLUTION)
        return clips if size is None else [shrunk(clip, size) for clip in clips]


def drawn(identities: Iterable[int], crops: Path, takes: int = TAKES) -> Iterator[Path]:
    """Videos of drawn speakers, made where neither they nor their crops are there."""
    from latentsync.data.synthetic import SyntheticSpeaker, synthesize_speech, write_clip

    for identity in identities:
        for take in range(takes):
            path = common.WORK / "stable_syncnet" / "drawn" / f"synth_{identity:03}_{take}.mp4"
            if not path.exists() and not (crops / f"{path.stem}.npz").exists():
                seed = FIRST_SEED + 10 * identity + take
                speech = synthesize_speech(seed, seconds=SECONDS)
                frames = SyntheticSpeaker(FIRST_SEED + identity, SIDE).frames(speech, seed)
                with common.made_whole(path) as partial:
                    write_clip(partial, frames, waveform=speech.waveform)
            yield path


def prepared(videos: Iterable[Path], crops: Path, resolution: int) -> list[ClipCrops]:
    """Crops of videos, made in the folder `crops` where they are not there; what has no face or sound is left out."""
    clips = []
    for video in videos:
        try:
            there = (crops / f"{video.stem}.npz").exists()
            clips.append(load_clip(crops, video.stem) if there else prepare_clip(video, crops, resolution))
        except InputError as error:
            print(f"left out: {error}")
    return clips


@torch.no_grad()
def shrunk(clip: ClipCrops, size: int) -> ClipCrops:
    """The clip in memory, with crops of `size` px, as the sync loss shrinks decoded frames."""
    parts = []
    for first in range(0, len(clip), SHRUNK_AT_ONCE):
        frames = torch.from_numpy(np.moveaxis(clip.crops[first : first + SHRUNK_AT_ONCE], -1, 1).copy()).float()
        small = F.interpolate(frames, (size, size), mode="bicubic", antialias=True)
        parts.append(small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy())
    return replace(clip, crops=np.concatenate(parts))


def moved(clip: ClipCrops, number: int) -> ClipCrops:
    """The clip with its sound earlier or later by an amount of its own, silence where there is none."""
    frames = int(sample_generator(FIRST_SEED, number).integers(-MOST_OFFSET, MOST_OFFSET + 1))
    samples = round(frames / MODEL_FPS * AUDIO_SAMPLE_RATE)
    padded = np.pad(clip.waveform, (max(0, samples), max(0, -samples)))
    return replace(clip, waveform=padded[max(0, -samples) :][: len(clip.waveform)])


def overrides(run: Run, pairs: int, folder: Path) -> list[str]:
    """What a run changes of the configuration."""
    count = max(1, run.pairs(pairs) // run.batch)
    every = max(1, count // VALIDATIONS)
    return [
        f"run_folder={folder}",
        f"run.seed={run.seed}",
        f"run.batch={run.batch}",
        f"run.gradient_accumulation={max(1, run.batch // PART)}",
        f"run.steps={count}",
        f"run.warmup={min(count, max(LEAST_WARMUP, count // 20))}",
        f"run.learning_rate={LEARNING_RATE if run.batch > PART else LEARNING_RATE / 2:.6f}",
        f"run.validate_every={every}",
        f"run.save_every={every}",
        f"run.ema_decay={EMA ** (run.batch / BATCH):.5f}",
        "run.log_every=1",
        f"pairs.crossed={str(run.crossed).lower()}",
        f"pairs.latent_looks={run.looks}",
    ]


def run_folder(name: str, material: Material, pairs: int) -> Path:
    """Where a run of so many pairs is."""
    return common.WORK / "stable_syncnet" / f"{name}-{pairs}-{material.identities}"


def train(name: str, material: Material, pairs: int) -> None:
    """Train a run, or go on with it, and ask it about every held-out speaker; a finished one is left alone."""
    run, folder = RUNS[name], run_folder(name, material, pairs)
    if (folder / measures.FOUND).exists():
        return
    config = load_config(run.config, overrides(run, pairs, folder))
    if run.after:
        train(run.after, material, pairs)
        before = run_folder(run.after, material, pairs)
        config.start_from = str(before / EXPORT)
        share_latents(before, folder)
    training, held_out = material.clips(run.data, looked_at(config))
    if not (folder / EXPORT).exists():
        train_run(run, config, training, held_out)
    task = make_task(config, training, held_out)
    asked = measures.not_known(held_out) if task.encode else held_out
    measures.keep(measures.answers(load_stable_syncnet(folder / EXPORT), asked, task.encode), folder)


def share_latents(before: Path, folder: Path) -> None:
    """A run sees the latents that the one before it has encoded."""
    link = folder / LATENTS
    if not link.exists():
        folder.mkdir(parents=True, exist_ok=True)
        link.symlink_to((before / LATENTS).resolve())


def train_run(run: Run, config: DictConfig, training: list[ClipCrops], held_out: list[ClipCrops]) -> None:
    """Train what `config` says on the clips of a run."""
    if run.offsets:
        training = [moved(clip, number) for number, clip in enumerate(training)]
    print(f"{run.title}: {len(training)} clips, {len(held_out)} held out", flush=True)
    train_on(config, training, held_out)


def looked_at(config: DictConfig) -> int | None:
    """Side of the crops that the network looks at, px; None where it looks at their latents."""
    return config.input.size if config.input.space == "pixel" else None


def train_on(config: DictConfig, training: Sequence[ClipCrops], held_out: Sequence[ClipCrops]) -> None:
    """Train what `config` says, or go on with it."""
    train_task(make_task(config, training, held_out), RunConfig.from_config(config.run), Path(config.run_folder))


def seconds_a_pair(material: Material) -> float:
    """Measured on a few clips; what a run needs beside its validations."""
    few = replace(material, identities=min(material.identities, 2 * HELD_OUT_SHARE))
    common.WORK.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=common.WORK) as name:
        pairs = PART * (WARM_UP + TIMED)
        config = load_config(CONFIG, [*overrides(Run("", batch=PART), pairs, Path(name)), "run.validate_every=1000"])
        train_on(config, *few.clips("drawn", looked_at(config)))
        return 1 / speeds(Path(name))["samples_per_second"]


def dry_run(material: Material, arguments: argparse.Namespace) -> str:
    """How long the runs that are still to be done take."""
    each = seconds_a_pair(material)
    minutes = each * arguments.pairs / 60
    left = [name for name in arguments.only if not (run_folder(name, material, arguments.pairs) / EXPORT).exists()]
    whole = minutes * sum(RUNS[name].times for name in left)
    fit = int(MOST_MINUTES * 60 / each) // BATCH * BATCH
    return (
        f"{1 / each:.0f} pairs a second: {minutes:.1f} minutes for {arguments.pairs} pairs, beside {VALIDATIONS} "
        f"validations of each run; {len(left)} runs to do ({', '.join(left) or 'none'}), {whole:.0f} minutes; "
        f"--pairs {fit} would take {MOST_MINUTES:.0f} minutes a run"
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    crops = common.WORK / "stable_syncnet" / "crops"
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS), help="runs (default: all)")
    parser.add_argument("--pairs", type=int, default=98_304, help="that each run sees (default: 98304)")
    parser.add_argument("--identities", type=int, default=100, help="drawn speakers, a fifth held out (default: 100)")
    parser.add_argument("--crops", type=Path, default=crops, help=f"folder of prepared clips (default: {crops})")
    parser.add_argument("--dry-run", action="store_true", help="time a few updates, print the estimate, stop")
    return parser.parse_args()


def finished(material: Material, pairs: int) -> dict[str, dict[str, Any]]:
    """Name of its folder -> `curves` of every finished run, those of earlier sweeps as they were."""
    known = common.RESULTS / "stable_syncnet.json"
    found = json.loads(known.read_text()) if known.exists() else {}
    held_out = len(range(HELD_OUT_SHARE - 1, material.identities, HELD_OUT_SHARE))
    for name, run in RUNS.items():
        folder = run_folder(name, material, pairs)
        if (folder / EXPORT).exists():
            speakers = "GRID s1" if run.data == "grid" else str(material.identities - held_out)
            found[folder.name] = {**curves(folder, run, speakers, run.before(pairs)), "machine": common.machine()}
    return found


def report(material: Material, pairs: int) -> None:
    """Write `results/stable_syncnet.md`, `.json` and `.png` of all finished runs."""
    found = finished(material, pairs)
    picture(found, common.RESULTS / "stable_syncnet.png")
    text = (
        f"# StableSyncNet at our scale\n\n`{CONFIG}` "
        f"(`{LATENT_CONFIG}` for latents); drawn speakers, every {HELD_OUT_SHARE}th held out, or GRID s1 without its "
        f"held-out sentences\n\nLast machine (each run's own is in the JSON): {common.machine()}\n\n"
        f"{common.table(HEADER, [row(run) for run in found.values()])}\n"
        "Right answers: cosine above 0.5 or not, over fixed held-out pairs, half of them from the same clip at least "
        f"5 frames away; by speaker: {measures.PAIRS} pairs of each held-out speaker (for latents of those whom the "
        "embedded autoencoder was not trained on either; of GRID: of each held-out "
        "sentence), their mean over the number in brackets. Offset found: within one frame of the truth.\n\n"
        "![curves](stable_syncnet.png)\n"
    )
    common.write_results("stable_syncnet", text, found)


def main() -> None:
    """Train what is missing; the tables are written after every run."""
    arguments = parse()
    material = Material(arguments.crops, arguments.identities)
    if arguments.dry_run:
        print(dry_run(material, arguments))
        return
    for name in arguments.only:
        train(name, material, arguments.pairs)
        report(material, arguments.pairs)


if __name__ == "__main__":
    main()
