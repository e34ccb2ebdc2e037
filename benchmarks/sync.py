"""Sync critics on real clips: sound moved by known frames is looked for, in contexts of more and more pictures.

For each critic that weights are given for: offset accuracy at six contexts, with the sound where it is and moved to
either side; binary accuracy and AUC of random pairs; of SyncNet v2 LSE-D and LSE-C. Clips that their index calls out of
step are left out; where a clip's own sound is off by a frame or two, that is counted against every critic alike. Runs
again where it stopped: an answer is kept by critic, clip and shift.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import common
import numpy as np

from latentsync.data.sync_scores import offsets
from latentsync.evaluation.sync import protocols
from latentsync.evaluation.sync.critic import Talk
from latentsync.evaluation.sync.stable_syncnet import StableSyncNetCritic
from latentsync.evaluation.sync.syncnet import SyncNetCritic
from latentsync.evaluation.sync.talks import read_talks
from latentsync.evaluation.sync.unisync import UniSyncCritic
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.hub import load_audio_encoder, load_stable_syncnet, load_syncnet, load_unisync, load_vae
from latentsync.hub.tensors import module_digest
from latentsync.types import InputError

EXAMPLE = (
    "python benchmarks/sync.py --unisync runs/unisync/export --stable-syncnet runs/stable_syncnet/export --clips 3"
)
SHIFTS = (0, -10, -5, -2, 2, 5, 10)  # frames by which the sound is moved
PAIR_HEADER = ("critic", "right %", "AUC", "against own sound moved", "against another's", "LSE-D", "LSE-C", "offset")
CHANCE = "The two tables are two protocols and not to be compared: chance is 9.7 % in the first and 50 % in the second."
SUSPECT = "suspect"  # what the index says of clips that may be out of step
HEADER = ("critic", "sound moved by", "a window", *(f"{2 * more} more" for more in range(1, protocols.CONTEXTS)))


Answers = dict[int, list[dict[str, Any]]]
"""by the frames that sound was moved by: what a critic says of each clip"""


class Judge:
    """A critic and a name that no other critic has."""

    def __init__(self, critic: VectorCritic, weights: Path | str, digest: bytes) -> None:
        self.critic, self.key = critic, digest.hex()[:12]
        self.title = f"{critic.name} ({Path(weights).name}, {self.key[:6]})"


def judges(arguments: argparse.Namespace) -> list[Judge]:
    """Every critic that weights are given for. InputError without any, CheckpointError for what is no such network."""
    found = []
    for path in arguments.syncnet:
        network = load_syncnet(path)
        found.append(Judge(SyncNetCritic(network), path, module_digest(network)))
    for path in arguments.stable_syncnet:
        network = load_stable_syncnet(path)
        vae = load_vae(arguments.vae) if network.input.space == "latent" and arguments.vae else None
        found.append(Judge(StableSyncNetCritic(network, vae), path, module_digest(network)))
    for path in arguments.unisync:
        network = load_unisync(path)
        encoder = load_audio_encoder(arguments.encoder) if network.audio.kind == "features" else None
        made_by = {"parser": arguments.parser, "landmarker": arguments.landmarker, "encoder": encoder}
        found.append(Judge(UniSyncCritic(network, **made_by), path, module_digest(network)))
    if not found:
        raise InputError("no critic: give weights with --syncnet, --stable-syncnet or --unisync")
    return found


def listed(only: Sequence[str], most: int) -> dict[str, str]:
    """{file: speaker} of the clips that are used, by the index. InputError for a name that is not there."""
    with (common.clips_dir() / "INDEX.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    speakers = {row["file"]: row["speaker"] for row in rows if row["sync check"] != SUSPECT}
    if missing := sorted(set(only) - speakers.keys()):
        raise InputError(
            f"{missing[0]} is not among the clips that may be used: {', '.join(sorted(speakers)[:5])}, ..."
        )
    names = sorted(only or speakers)[:most]
    return {name: speakers[name] for name in names}


class Talks:
    """The longest talk of every clip, read when it is first asked for."""

    def __init__(self, clips: dict[str, str]) -> None:
        self.clips, self._read = clips, dict[str, Talk | None]()

    def __getitem__(self, name: str) -> Talk | None:
        """None where the clip cannot be judged; why is printed."""
        if name not in self._read:
            try:
                longest = max(read_talks(common.clips_dir() / name), key=len)
                self._read[name] = replace(longest, speaker=self.clips[name])
            except InputError as error:
                print(f"left out: {error}", flush=True)
                self._read[name] = None
        return self._read[name]

    def all(self) -> list[Talk]:
        """Of all clips that have one."""
        return [talk for name in self.clips if (talk := self[name]) is not None]


def of_clip(judge: Judge, talk: Talk, late: int) -> dict[str, Any]:
    """What one critic makes of one talk whose sound is moved."""
    scores = judge.critic.scores(talk.shifted(late))
    accuracy = protocols.offset_accuracy([scores], judge.critic.frames, late)
    found = {"accuracy": list(accuracy.values()), "offset": int(offsets(scores.mean(axis=0))), "windows": len(scores)}
    return found | ({"lse": asdict(protocols.lse(scores))} if isinstance(judge.critic, SyncNetCritic) else {})


def measure(judge: Judge, talks: Talks, store: common.Measurements) -> Answers:
    """{shift: answers over the clips}, computed where they are missing."""
    rows: Answers = {late: [] for late in SHIFTS}
    for name in talks.clips:
        for late in SHIFTS:
            job = [judge.key, name, str(late)]
            row = store.get(job)
            if row is None and (talk := talks[name]) is not None:
                row = store.add(job, of_clip(judge, talk, late))
            if row is not None:
                rows[late].append(row)
        print(f"{judge.title}: {name}", flush=True)
    return rows


def binary(judge: Judge, talks: Talks, store: common.Measurements) -> dict[str, Any]:
    """Binary accuracy and AUC over all clips."""
    job = [judge.key, "pairs", *sorted(talks.clips)]
    return store.get(job) or store.add(job, asdict(protocols.binary_accuracy(judge.critic, talks.all())))


def accuracy_rows(judge: Judge, rows: Answers) -> list[list[str]]:
    """Of the offset table: sound where it is, and the mean over all shifts."""
    means = {late: np.mean([row["accuracy"] for row in found], axis=0) for late, found in rows.items()}
    moved = np.mean([mean for late, mean in means.items() if late], axis=0)
    first = judge.critic.frames
    told = {"nothing": means[0], f"{len(means) - 1} shifts to {max(SHIFTS)} frames": moved}
    return [[judge.title, what, *_cells(values, first)] for what, values in told.items()]


def _cells(values: np.ndarray, frames: int) -> list[str]:
    return [f"{100 * value:.1f} ({context})" for context, value in zip(protocols.contexts(frames), values, strict=True)]


def pair_row(judge: Judge, pairs: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Of the table of pairs and distances; rows: with the sound where it is."""
    right = "no threshold" if pairs["accuracy"] is None else f"{100 * pairs['accuracy']:.1f}"
    aucs = [f"{pairs[key]:.3f}" for key in ("auc", "auc_shifted", "auc_swapped")]
    errors = [row["lse"] for row in rows if "lse" in row]
    lse = [f"{np.mean([error[key] for error in errors]):.2f}" if errors else "" for key in ("lse_d", "lse_c")]
    return [judge.title, right, *aucs, *lse, f"{np.median([row['offset'] for row in rows]):+.0f}"]


def picture(curves: dict[str, tuple[tuple[int, ...], np.ndarray]], path: Path) -> None:
    """Accuracy over pictures seen, the sound where it is, a line a critic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for title, (contexts, accuracy) in curves.items():
        axes.plot(contexts, 100 * accuracy, marker="o", label=title)
    axes.axhline(100 * 3 / 31, color="grey", linestyle="--", label="chance")
    axes.set(xlabel="pictures seen", ylabel="sound found within a frame, %", ylim=(0, 100))
    axes.legend()
    FigureCanvasAgg(figure)
    with common.made_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    for kind in ("syncnet", "stable-syncnet", "unisync"):
        parser.add_argument(f"--{kind}", action="append", default=[], metavar="PATH", help="weights; may be repeated")
    parser.add_argument("--vae", help="autoencoder of a StableSyncNet that looks at latents")
    parser.add_argument("--encoder", help="audio encoder of a UniSync that listens to features")
    parser.add_argument("--landmarker", help="face_landmarker.task of a UniSync that looks at blendshapes")
    parser.add_argument("--parser", help="segmentation network of a UniSync that looks at its regions")
    parser.add_argument("--clips", type=int, default=1000, help="how many of the clips, by name (default: all)")
    parser.add_argument("--only", nargs="*", default=[], metavar="FILE", help="clips by file name")
    parser.add_argument("--name", default="sync", help="of the result files (default: sync)")
    return parser.parse_args()


def report(name: str, clips: int, found: Sequence[tuple[Judge, Answers, dict[str, Any]]]) -> None:
    """Write `results/NAME.md`, `.json` and `.png`; found: each critic with its answers and its pairs."""
    contexts = [protocols.contexts(judge.critic.frames) for judge, _, _ in found]
    here = [np.mean([row["accuracy"] for row in rows[0]], axis=0) for _, rows, _ in found]
    titles = [judge.title for judge, _, _ in found]
    picture(dict(zip(titles, zip(contexts, here, strict=True), strict=True)), common.RESULTS / f"{name}.png")
    offset_table = common.table(HEADER, [line for judge, rows, _ in found for line in accuracy_rows(judge, rows)])
    pair_table = common.table(PAIR_HEADER, [pair_row(judge, pairs, rows[0]) for judge, rows, pairs in found])
    text = (
        f"# Sync critics on {clips} real clips\n\n{common.machine()}\n\n{CHANCE}\n\n"
        f"## Sound found within a frame, % (of so many pictures)\n\n{offset_table}\n![curves]({name}.png)\n\n"
        f"## Random pairs told apart\n\n{pair_table}"
    )
    values = {
        judge.title: {"pairs": pairs, "answers": [row for answers in rows.values() for row in answers]}
        for judge, rows, pairs in found
    }
    common.write_results(name, text, values)


def main() -> None:
    """Score every clip by every critic."""
    arguments = parse()
    critics, talks = judges(arguments), Talks(listed(arguments.only, arguments.clips))
    store, found = common.Measurements(common.WORK / "sync" / "answers.jsonl"), []
    for judge in critics:
        rows = measure(judge, talks, store)
        if not rows[0]:
            raise InputError("none of the clips can be judged: give others")
        found.append((judge, rows, binary(judge, talks, store)))
    report(arguments.name, len(found[0][1][0]), found)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
