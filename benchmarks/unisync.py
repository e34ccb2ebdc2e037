"""UniSync at our scale: eight pairs of representations, margins, shares of cross-speaker negatives, several seeds.

Trains configs/unisync_small.yaml on drawn and recorded speakers for the same number of updates in every cell of the
grid, and measures each network on speakers that it never saw, drawn and recorded ones, by both protocols: pairs told
apart, and offsets found. Every training takes --minutes at most: an update of each pair is timed first, and the slowest
decides, unless --updates is given. Run again after a kill, it goes on; tables are written after every network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import common
import torch
import unisync_report as reports
from run_logs import WARM_UP, speeds
from stable_syncnet import TAKES
from unisync_training import BASE, CELLS, CONFIG, EMBEDDED, NEW_PEOPLE, OTHERS, PAIRS, Material, Trainer, run_name

from latentsync.hub import load_unisync
from latentsync.types import InputError

EXAMPLE = "python benchmarks/unisync.py --crops runs/prepared --minutes 4 --dry-run"
TIMED = 6  # updates that a training's pace is the median of
USED = 0.8  # share of a training's minutes that goes into updates; the rest reads clips, validates and saves
MOST_MINUTES = 15.0  # of one training on two cores
# Seconds on two cores, for the estimate alone: a drawn head, a measurement, blendshapes of all clips.
HEAD_SECONDS, MEASURE_SECONDS, BLENDSHAPE_SECONDS = 5.0, 60.0, 450.0
LANDMARKER = "mediapipe_face_landmarker_v2_with_blendshapes.task"
SPEECH = "openwakeword_google_speech_embedding.onnx"
CAUTIONS = """- No network here is a published one, and no random weights stand for a trained one: "features" are of
  {encoder}, in the place of HuBERT. A SpeechEmbedding was trained to spot words, on sound alone, and looks at 0.77 s
  around each row. The embedded checkpoint's MelEncoder was trained to tell the shape of the lips, on the drawn people 0
  to 99 and on some of the recorded speakers that are held out here, never on the new drawn people: that it knows
  mouths, and these voices, is help that HuBERT had not.
- A parsing map that is drawn from the landmarks is not independent of them: it holds less than they do, and a
  difference between the two is one of form, not of content.
- The paper's figures are the largest of several runs on LRS2, 224 hours; ours are means over seeds on minutes of video.
- The margin loss is the printed form, which relaxes negatives; `strict` is the other reading."""


@dataclass(frozen=True)
class Plan:
    """What may not change between two starts of one sweep."""

    crops: str
    minutes: float
    encoder: str
    landmarker: str | None
    parser: str | None
    steps: int  # updates of every training

    def check(self, given: Plan) -> None:
        """InputError where the sweep began with other arguments."""
        before, now = ({**asdict(plan), "steps": 0} for plan in (self, given))
        if before != now:
            raise InputError(f"the sweep began with {before} and {now} are given: use the same, or another --name")


def time_updates(folder: Path, trainer: Trainer) -> dict[str, float]:
    """Seconds an update of every pair takes, on a few clips in a folder that is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = {}
    with TemporaryDirectory(dir=folder) as name:
        kinds = (trainer.encoder, trainer.landmarker, trainer.parser)
        short = Trainer(Path(name), trainer.material, *kinds, few=True)
        for cell in PAIRS:
            short.train(cell, 1, WARM_UP + TIMED)
            batch = short.config(cell, 1, 1).run.batch
            seconds[cell] = batch / speeds(Path(name) / run_name(cell, 1))["samples_per_second"]
            print(f"timed {cell}: {seconds[cell]:.2f} s an update", flush=True)
    return seconds


def steps_within(minutes: float, seconds: Mapping[str, float]) -> int:
    """Updates of every training alike: as many as the slowest pair does in the time."""
    return max(1, int(USED * 60 * minutes / max(seconds.values())))


def estimate(seconds: Mapping[str, float], steps: int, cells: Sequence[str], seeds: Sequence[int]) -> str:
    """A table of what the sweep will do, and how long it takes."""
    lines, total = [], 0.0
    for cell in cells:
        each = seconds[f"{CELLS[cell].audio}_{CELLS[cell].visual}"]
        minutes = len(seeds) * (steps * each / USED + MEASURE_SECONDS) / 60
        total += minutes
        lines.append([cell, f"{each:.2f}", steps, len(seeds), f"{minutes:.0f}"])
    once = (len(NEW_PEOPLE) * TAKES * HEAD_SECONDS + BLENDSHAPE_SECONDS) / 60
    lines.append(["drawing and extracting, once", "", "", "", f"about {once:.0f}"])
    lines.append(["**all**", "", "", "", f"about {total + once:.0f}"])
    return common.table(("what", "seconds an update", "updates", "seeds", "minutes"), lines)


class Sweep:
    """One sweep, in its folder; `run` goes on where it was."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """InputError for a folder of crops that is not there."""
        self.arguments, self.folder = arguments, common.WORK / arguments.name
        material = Material(arguments.crops, common.WORK / "unisync_material")
        self.trainer = Trainer(
            self.folder / "runs", material, arguments.encoder, arguments.landmarker, arguments.parser
        )

    def plan(self) -> Plan:
        """The plan that the sweep began with, or a new one."""
        path, given = self.folder / "plan.json", self.arguments
        wanted = Plan(str(given.crops), given.minutes, given.encoder, given.landmarker, given.parser, 0)
        if path.exists():
            plan = Plan(**json.loads(path.read_text()))
            plan.check(wanted)
            return plan
        made = Plan(**{**asdict(wanted), "steps": given.updates or self.dry_run()})
        with common.made_whole(path) as partial:
            partial.write_text(json.dumps(asdict(made), indent=1) + "\n")
        return made

    def dry_run(self) -> int:
        """Time, print the estimate; returns the updates that fit."""
        seconds = time_updates(self.folder, self.trainer)
        steps = steps_within(self.arguments.minutes, seconds)
        print(estimate(seconds, steps, self.arguments.only, self.arguments.seeds), flush=True)
        return steps

    def run(self) -> None:
        """Train and measure what is missing, seed by seed, so that every cell has one seed before any has two."""
        plan = self.plan()
        store = common.Measurements(self.folder / "measurements.jsonl")
        for seed in self.arguments.seeds:
            for cell in self.arguments.only:
                export = self.trainer.train(cell, seed, plan.steps)
                label = run_name(cell, seed)
                missing = [kind for kind in reports.GROUPS if store.get([label, kind]) is None]
                for kind, row in self.trainer.measure(cell, export, missing) if missing else ():
                    store.add([label, kind], row)
                    print(f"{label} {kind} { ({name: round(value, 3) for name, value in row.items()}) }", flush=True)
                self.report(plan, store)

    def sources(self) -> dict[str, str]:
        """Representation -> what made it, as the trained networks say."""
        found = {}
        for cell in PAIRS:
            for export in sorted(self.trainer.folder.glob(f"{cell}-*/export"))[:1]:
                network = load_unisync(export)
                found[network.visual.kind], found[network.audio.kind] = network.visual.source, network.audio.source
        return found

    def report(self, plan: Plan, store: common.Measurements) -> None:
        """Write `results/NAME.md`, `.json` and `.png` of what there is."""
        name, seeds = self.arguments.name, self.arguments.seeds
        found, sources = reports.Found(store.done, seeds), self.sources()
        drawn_curves = reports.curves(self.trainer.folder, seeds, self.trainer.config(BASE, 1, 1).run.batch)
        longest = max((run["minutes"] for run in drawn_curves.values()), default=0.0)
        reports.picture(drawn_curves, common.RESULTS / f"{name}.png")
        order, values = reports.ordering(found)
        encoder = sources.get("features", "a speech encoder")
        cautions = CAUTIONS.format(encoder=encoder)
        margins, shares = reports.variants()
        text = (
            f"# UniSync at our scale\n\n{common.machine()}\n\n"
            f"`{CONFIG}`, {plan.steps} updates of each, which took {longest:.1f} minutes at most; seeds "
            f"{', '.join(map(str, seeds))}; mean ± standard deviation over seeds. Of the held-out "
            f"speakers nobody is in training. {reports.CHANCE}\n\n"
            f"{common.table(('representation', 'made by'), sources.items())}\n"
            f"{cautions}\n\n## The eight pairs\n\n"
            f"{reports.both_protocols(found, {name: cell.title for name, cell in {**PAIRS, **OTHERS}.items()})}\n"
            f"## The ordering beside the paper's\n\n{order}\n## Margins, on {BASE}\n\n"
            f"{reports.both_protocols(found, margins)}\n## Share of cross-speaker negatives, on {BASE}\n\n"
            f"{reports.both_protocols(found, shares)}\n{reports.shares_beside(found)}\n![curves]({name}.png)\n"
        )
        rows = list(store.done.values())
        common.write_results(
            name, text, {"steps": plan.steps, "ordering": values, "rows": rows, "curves": drawn_curves}
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    parser.add_argument("--crops", type=Path, required=True, help="folder of prepared clips, drawn and recorded")
    parser.add_argument("--minutes", type=float, default=4.0, help="of one training (default: 4, at most 15)")
    parser.add_argument(
        "--updates", type=int, help="of every training, where others use the cores while a new sweep would time them "
        "(default: as many as fit into --minutes)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--only", nargs="+", default=list(CELLS), choices=list(CELLS), help="cells (default: all)")
    parser.add_argument(
        "--encoder", help="speech encoder of the features: HuBERT by name or folder (default: the shared speech "
        "embedding, else the embedded checkpoint's mel encoder)",
    )  # fmt: skip
    parser.add_argument(
        "--landmarker", help="face_landmarker.task for 3dmm (default: the shared one, else a PCA basis)"
    )
    parser.add_argument("--parser", help="face-parsing network (default: regions drawn from the landmarks)")
    parser.add_argument("--threads", type=int, default=1, help="of a training beside its loader (default: 1)")
    parser.add_argument("--name", default="unisync", help="of the sweep and its result files (default: unisync)")
    parser.add_argument("--dry-run", action="store_true", help="time a few updates of each, print the estimate, stop")
    given = parser.parse_args(arguments)
    if not 0 < given.minutes <= MOST_MINUTES:
        parser.error(f"--minutes is {given.minutes:g}: give more than 0 and at most {MOST_MINUTES:g}")
    weights = common.clips_dir().parent / "weights"
    if given.landmarker is None and (weights / LANDMARKER).exists():
        given.landmarker = str(weights / LANDMARKER)
    given.encoder = given.encoder or (str(weights / SPEECH) if (weights / SPEECH).exists() else EMBEDDED)
    return given


def main() -> None:
    """Go on with the sweep."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    common.go_on(lambda: Sweep(arguments), arguments.dry_run)


if __name__ == "__main__":
    main()
