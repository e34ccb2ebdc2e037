"""How many clips a core prepares in a minute, by stage.

Every stage is timed by the CPU seconds of its process, decoding threads included, so other work on the machine hardly
counts. Nothing is taken over from an earlier run. The public pipeline needs about 10 s a clip on a machine with a GPU.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import asdict
from pathlib import Path

import common

from latentsync.config import load_config
from latentsync.data.preparation.run import Preparation, prepare_data

EXAMPLE = "python benchmarks/prepare.py --clips 3"
LONGEST = 10.0  # seconds of the videos that are taken, so that each gives about one clip
SHORTEST = 2.5  # seconds of a segment: GRID's sentences are 3 s long
MINUTE = 60.0  # seconds


def videos(count: int) -> list[Path]:
    """`count` short clips, evenly spread over the list of them."""
    with (common.clips_dir() / "INDEX.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row["file"] for row in csv.DictReader(file, delimiter="\t") if float(row["seconds"]) <= LONGEST]
    return [common.clips_dir() / rows[len(rows) * number // count] for number in range(count)]


def prepare(paths: list[Path], resolution: int, critic: str | None) -> Preparation:
    """Prepare in this process, from nothing."""
    folder = common.WORK / "prepare"
    shutil.rmtree(folder, ignore_errors=True)
    changes = [f"folder='{folder}'", f"resolution={resolution}", "workers=1", f"segments.shortest={SHORTEST}"]
    config = load_config("prepare", [*changes, "speakers=file"])
    config.videos, config.sync.critic = [str(path) for path in paths], critic
    return prepare_data(config)


def main() -> None:
    """Prepare, count and write `results/prepare.md`."""
    parser = common.parser(__doc__, EXAMPLE)
    parser.add_argument("--clips", type=int, default=24, help="how many videos (default: 24)")
    parser.add_argument("--resolution", type=int, default=256, help="px of the crops (default: 256)")
    parser.add_argument("--critic", metavar="PATH", help="a StableSyncNet (default: the simple estimate)")
    arguments = parser.parse_args()
    done = prepare(videos(arguments.clips), arguments.resolution, arguments.critic)
    clips, seconds = len(done.manifest.entries), sum(count.cpu_seconds for count in done.report.stages)
    rows = [
        (count.stage, count.entered, count.unit, f"{count.cpu_seconds:.2f}", _rate(count.entered, count.cpu_seconds))
        for count in done.report.stages
    ]
    text = (
        f"# Preparation\n\n{common.machine()}\n\n{arguments.clips} videos of up to {LONGEST:g} s, crops of "
        f"{arguments.resolution} px, sync critic: {arguments.critic or 'the simple estimate'}. {clips} clips of "
        f"{done.report.hours * 3600 / clips:.1f} s on average in {seconds:.1f} CPU seconds: "
        f"**{_rate(clips, seconds)} clips a core-minute**, {seconds / clips:.1f} s of one core a clip (the public "
        "pipeline: about 10 s a clip on a machine with a GPU).\n\n"
    )
    text += common.table(("stage", "entered", "of", "CPU s", "a core-minute"), rows)
    common.write_results("prepare", text, {"clips": clips, "stages": [asdict(count) for count in done.report.stages]})


def _rate(count: int, seconds: float) -> str:
    """Things done in a minute of one core."""
    return f"{MINUTE * count / seconds:.0f}" if seconds > 0 else "-"


if __name__ == "__main__":
    main()
