"""The paper's claims at our scale: no SyncNet, a latent one, a pixel one, with and without TREPA.

Trains the critics (pixel and latent StableSyncNet, VideoMAE), one more StableSyncNet that only judges, then the UNet of
configs/unet/claims.yaml with each set of losses and each seed, all for the same number of updates from one checkpoint;
dubs people that nothing was trained on and measures. A UNet trains for --minutes at most, a critic for
--critic-minutes: an update of each is timed first, and the slowest UNet decides. Run again after a kill, it goes on;
tables are written after every network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import claims_report as reports
import common
from claims_measures import DRAWN, NOTHING, REAL, RIGHT, Tests, load_judge, measurements
from claims_training import (
    CRITICS,
    JUDGE,
    JUDGES_PEOPLE,
    THE_PAPERS,
    TREPA_WEIGHT,
    UNET,
    VARIANTS,
    Clips,
    Trainer,
    needed_critics,
    run_name,
)
from run_logs import WARM_UP, speeds
from stable_syncnet import TAKES

from latentsync.hub import load_components
from latentsync.types import InputError

EXAMPLE = "python benchmarks/claims.py --crops runs/prepared --minutes 15 --dry-run"
TIMED = 3  # updates that a training's pace is the median of
USED = 0.85  # share of a training's minutes that goes into updates; the rest validates and saves
MOST_MINUTES = 15.0  # of one training on two cores
TIMED_SEED = 1
# Seconds on two cores, for the estimate alone: a drawn triple, a drawn head of the judge, a dub with its measuring.
TRIPLE_SECONDS, HEAD_SECONDS, DUB_SECONDS = 30.0, 5.0, 25.0
CAUTION = (
    "Sync is judged by a StableSyncNet that no training saw: another seed, size, width and place of the attention, and "
    "drawn people of its own. Nobody who is dubbed was trained on: drawn people of the counterfactual set, and the "
    "recorded people that `articulation.py` keeps apart."
)


@dataclass(frozen=True)
class Plan:
    """What may not change between two starts of one sweep."""

    start: str  # checkpoint
    digest: str  # of its bytes
    crops: str
    minutes: float  # of one UNet's training
    critic_minutes: float  # of one critic's
    trepa: float  # weight of that loss
    changes: list[str]  # of every UNet's configuration
    steps: dict[str, int]  # of every critic, and of every UNet under UNET

    def check(self, arguments: argparse.Namespace, digest: str) -> None:
        """InputError where the sweep began with other arguments."""
        given = (arguments.start, digest, str(arguments.crops), arguments.minutes, arguments.critic_minutes)
        given += (arguments.trepa, arguments.set)
        began = (self.start, self.digest, self.crops, self.minutes, self.critic_minutes, self.trepa, self.changes)
        if given != began:
            raise InputError(
                f"the sweep {arguments.name} began with {began} (start, its digest, crops, minutes, critics' "
                f"minutes, weight of TREPA, changes) and {given} are given: use the same, or another --name"
            )


def time_updates(folder: Path, trainer: Trainer, variants: Sequence[str]) -> dict[str, float]:
    """Seconds an update of every variant and of its critics takes, on a few clips in a folder that is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as name:
        short = Trainer(Path(name), trainer.clips, trainer.start, trainer.changes, trainer.trepa_weight, few=True)
        seconds = {}
        for run in (*needed_critics(variants), *(run_name(variant, TIMED_SEED) for variant in variants)):
            short.train(run, WARM_UP + TIMED)
            batch = short.config(run, 1).run.batch
            seconds[run] = batch / speeds(Path(name) / run)["samples_per_second"]
            print(f"timed {run}: {seconds[run]:.2f} s an update", flush=True)
    return seconds


def steps_within(minutes: float, critic_minutes: float, seconds: Mapping[str, float]) -> dict[str, int]:
    """Updates of every critic, and of every UNet alike: as many as the slowest variant does in its minutes."""

    def fit(budget: float, each: float) -> int:
        return max(1, int(USED * 60 * budget / each))

    steps = {name: fit(critic_minutes, seconds[name]) for name in CRITICS if name in seconds}
    slowest = max(value for name, value in seconds.items() if name not in CRITICS)
    return {**steps, UNET: fit(minutes, slowest)}


def estimate(seconds: Mapping[str, float], steps: Mapping[str, int], arguments: argparse.Namespace) -> str:
    """A table of what the sweep will do, and how long it takes."""
    lines: list[list[Any]] = []
    total = 0.0
    for name, each in seconds.items():
        count = steps.get(name, steps[UNET])
        times = 1 if name in CRITICS else len(arguments.seeds)
        minutes = count * each / USED / 60
        total += times * minutes
        lines.append([name if name in CRITICS else name.rpartition("_")[0], f"{each:.2f}", count, times])
        lines[-1].append(f"{times * minutes:.0f}")
    dubs = (arguments.drawn + arguments.real) * (1 + len(arguments.only) * len(arguments.seeds))
    drawing = (arguments.drawn * TRIPLE_SECONDS + len(JUDGES_PEOPLE) * TAKES * HEAD_SECONDS) / 60
    measuring = dubs * DUB_SECONDS / 60
    lines.append(["drawing", "", "", "", f"about {drawing:.0f}"])
    lines.append([f"{dubs} dubs", f"about {DUB_SECONDS:.0f}", "", "", f"about {measuring:.0f}"])
    lines.append(["**all**", "", "", "", f"about {total + drawing + measuring:.0f}, and encoding the clips once"])
    return common.table(("what", "seconds an update", "updates", "times", "minutes"), lines)


class Sweep:
    """Everything of one name."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.folder = common.WORK / "claims" / arguments.name
        start = load_components(arguments.start)
        self.digest, resolution = start.digest, start.settings.resolution
        self.resolution = resolution
        clips = Clips(arguments.crops, self.folder, resolution)
        self.trainer = Trainer(self.folder / "trained", clips, arguments.start, tuple(arguments.set), arguments.trepa)

    def plan(self) -> Plan:
        """The one that the sweep began with, or a new one, timed now."""
        path = self.folder / "plan.json"
        if path.exists():
            known = Plan(**json.loads(path.read_text()))
            known.check(self.arguments, self.digest)
            return known
        made = self._new_plan(time_updates(self.folder, self.trainer, self.arguments.only))
        with common.made_whole(path) as partial:
            partial.write_text(json.dumps(asdict(made), indent=1) + "\n")
        return made

    def _new_plan(self, seconds: Mapping[str, float]) -> Plan:
        given = self.arguments
        steps = steps_within(given.minutes, given.critic_minutes, seconds)
        print(estimate(seconds, steps, given), flush=True)
        minutes = (given.minutes, given.critic_minutes)
        return Plan(given.start, self.digest, str(given.crops), *minutes, given.trepa, given.set, steps)

    def dry_run(self) -> None:
        """Time, and print the estimate."""
        self._new_plan(time_updates(self.folder, self.trainer, self.arguments.only))

    def run(self) -> None:
        """Train and measure what is missing, one network after the other."""
        plan = self.plan()
        for name in needed_critics(self.arguments.only):
            if name not in plan.steps:
                raise InputError(f"the sweep {self.arguments.name} was planned without the {name}: use another --name")
            self.trainer.train(name, plan.steps[name])
        judge = load_judge(self.trainer.export(JUDGE))
        given = self.arguments
        tests = Tests(self.folder, judge, given.drawn, given.real, self.resolution)
        store = common.Measurements(self.folder / "measurements.jsonl")
        self._ends(tests, store)
        measurements(tests, store, {reports.START: given.start})
        for seed in given.seeds:
            for variant in given.only:
                label = run_name(variant, seed)
                measurements(tests, store, {label: self.trainer.train(label, plan.steps[UNET])})
                self.report(plan, store)
        self.report(plan, store)

    def _ends(self, tests: Tests, store: common.Measurements) -> None:
        for known in tests.triples:
            name = known.folder.name
            if store.get([NOTHING, DRAWN, name]) is None or store.get([RIGHT, DRAWN, name]) is None:
                for label, row in tests.ends(known).items():
                    store.add([label, DRAWN, name], row)

    def report(self, plan: Plan, store: common.Measurements) -> None:
        """Write `results/NAME.md`, `.json` and `.png` of what there is."""
        given = self.arguments
        found = reports.Found(store.done, given.seeds)
        runs = self.trainer.folder
        drawn_curves = reports.curves(runs, given.seeds)
        reports.picture(drawn_curves, common.RESULTS / f"{given.name}.png")
        claims, values = reports.claims_table(found)
        text = (
            f"# The paper's claims, at our scale\n\n"
            f"{common.machine()}\n\n`{UNET}`, {plan.steps[UNET]} updates of each from `{plan.start}` "
            f"({plan.digest[:12]}), seeds {', '.join(map(str, given.seeds))}. {CAUTION}\n\n"
            f"## Claims\n\n{reports.READ}\n\n{claims}\n"
            f"## Drawn people, with their right answers\n\nMean ± standard deviation over clips (over seeds).\n\n"
            f"{reports.figures_table(found, DRAWN)}\n## Recorded people, another's speech\n\n"
            f"{reports.figures_table(found, REAL)}\n## Losses\n\nAs weighted, the mean over the last quarter of the "
            f"updates.\n\n{reports.losses_table(drawn_curves)}\n## Critics\n\n{reports.critics_table(runs)}\n"
            f"![losses]({given.name}.png)\n"
        )
        rows: list[Any] = list(store.done.values())
        common.write_results(
            given.name, text, {"plan": asdict(plan), "claims": values, "rows": rows, "curves": drawn_curves}
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    parser.add_argument("--crops", type=Path, required=True, help="folder of prepared clips, drawn and recorded")
    parser.add_argument(
        "--start", default="embedded", help="checkpoint that every UNet begins at, its temporal modules too if it has "
        "any; an early stage 1 shows more (default: embedded)",
    )  # fmt: skip
    minutes = {"type": float, "default": MOST_MINUTES}
    parser.add_argument("--minutes", **minutes, help="of one UNet's training (default: 15, the most)")
    parser.add_argument("--critic-minutes", **minutes, help="of one critic's training (default: 15, the most)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    shown = " ".join(THE_PAPERS)
    parser.add_argument(
        "--only", nargs="+", default=list(THE_PAPERS), choices=list(VARIANTS), help=f"default: {shown}"
    )  # fmt: skip
    parser.add_argument("--drawn", type=int, default=6, help="drawn people that are dubbed (default: 6, at most 24)")
    parser.add_argument("--real", type=int, default=6, help="recorded people that are dubbed (default: 6, at most 8)")
    parser.add_argument(
        "--trepa", type=float, default=TREPA_WEIGHT, help="weight of TREPA (default: 10, the paper's; a small VideoMAE "
        "tells faces apart by little, and the table of losses says what its term comes to)",
    )  # fmt: skip
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to every UNet's training")
    parser.add_argument("--name", default="claims", help="of the sweep and its result files (default: claims)")
    parser.add_argument("--dry-run", action="store_true", help="time a few updates of each, print the estimate, stop")
    given = parser.parse_args(arguments)
    for asked in (given.minutes, given.critic_minutes):
        if not 0 < asked <= MOST_MINUTES:
            parser.error(f"{asked:g} minutes of a training asked for: give more than 0 and at most {MOST_MINUTES:g}")
    return given


def main() -> None:
    """Go on with the sweep."""
    arguments = parse()
    common.go_on(lambda: Sweep(arguments), arguments.dry_run)


if __name__ == "__main__":
    main()
