"""Two minutes of one person: held-out sentences of GRID's speaker s1 before and after fine-tuning on forty others.

The base must be a checkpoint that never saw this speaker, or "before" is not what the word says: the embedded one was
trained on 262 of his sentences. Train a base on clips without those of GRID s1 and give its folder. Runs again where it
stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import articulation
import common
import numpy as np
from dubs import Dubber

from latentsync.config import load_config
from latentsync.evaluation.articulation import spread

EXAMPLE = "python benchmarks/finetune.py --base runs/without_s1/export --pairs 10"
CLIPS = 40  # of 3 s: two minutes
FIGURES = {"r_target": 2, "r_leak": 2, "psnr_mouth": 1, "sharpness_share": 2, "psnr_outside": 1}  # and their digits


def training_stems(count: int) -> list[str]:
    """`count` sentences that are not held out, evenly spread."""
    kept = set(common.held_out())
    others = [stem for stem in common.grid_stems() if stem not in kept]
    return [others[int(place)] for place in np.linspace(0, len(others) - 1, count)]


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The options of the fine-tuning: its folder hangs on all that it is made from."""
    videos = [str(common.clip(stem)) for stem in training_stems(arguments.clips)]
    facts = json.dumps([str(arguments.base), videos, arguments.full, arguments.set])
    folder = common.WORK / "finetune" / hashlib.sha256(facts.encode()).hexdigest()[:12]
    listed = ",".join(f"'{video}'" for video in videos)
    return [f"videos=[{listed}]", f"folder='{folder}'", f"checkpoint='{arguments.base}'", "name=s1", *arguments.set]


def measured(checkpoint: str, pairs: int, seed: int) -> list[dict[str, Any]]:
    """Every pair with the other's speech, then every video with its own; a row has the figures of both."""
    options = {"steps": None, "guidance": None, "seed": seed, "no_baselines": True}
    run = articulation.Run(argparse.Namespace(checkpoint=checkpoint, **options))
    crossed = articulation.grid_pairs(pairs)
    rows = zip(run.dubs(crossed), run.dubs(articulation.with_own_speech(crossed)), strict=True)
    return [
        {
            **{name: cross[name] for name in ("r_target", "r_leak", "psnr_outside")},
            **{name: own[name] for name in ("psnr_mouth", "sharpness_share")},
        }
        for cross, own in rows
    ]


def table(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Markdown, and the same for machines. Differences are over pairs, so that what pairs differ in falls out."""
    rows, values = [], {}
    for name, digits in FIGURES.items():
        sides = [[row[name] for row in found] for found in (before, after)]
        columns = {
            "before": sides[0],
            "after": sides[1],
            "gain": [b - a for a, b in zip(*sides, strict=True)],
        }
        found = {label: spread(numbers) for label, numbers in columns.items()}
        rows.append([name, *(articulation.cell(column, digits) for column in found.values())])
        values[name] = {label: asdict(column) for label, column in found.items()}
    return common.table(("", "before", "after", "gain by pair"), rows), values


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    parser.add_argument("--base", required=True, help="checkpoint to fine-tune: one that never saw GRID's speaker s1")
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"of 3 s, to learn from (default: {CLIPS})")
    parser.add_argument("--pairs", type=int, default=10, help="held-out sentences, at most 38 (default: 10)")
    parser.add_argument("--full", action="store_true", help="train all weights instead of a LoRA")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of configs/finetune.yaml")
    parser.add_argument("--seed", type=int, default=0, help="of the dubs")
    parser.add_argument("--note", default="", help="what the base saw, a sentence for the result")
    parser.add_argument("--name", default="finetune", help="of the result files (default: finetune)")
    return parser.parse_args()


def main() -> None:
    """Fine-tune, dub, measure and write `results/NAME.md`."""
    arguments = parse()
    from latentsync.training.finetune import FineTuning

    config = load_config("finetune_full" if arguments.full else "finetune", overrides(arguments))
    tuned = FineTuning(config).run(progress=sys.stderr.isatty())
    sides = [
        measured(str(checkpoint), arguments.pairs, arguments.seed) for checkpoint in (tuned.base, tuned.checkpoint)
    ]
    text, values = table(*sides)
    kind = "all weights" if arguments.full else f"LoRA of rank {config.training.lora.rank}"
    base = articulation.describe(Dubber(tuned.base))
    head = (
        f"# Fine-tuning on one speaker\n\n{arguments.clips} sentences of GRID s1, {kind}, options "
        f"{arguments.set or 'as in configs/finetune.yaml'}; base {base}. {arguments.note}\n\n"
        f"{common.machine()}\n\nMean [95 % interval] ± standard deviation over {arguments.pairs} held-out sentences: "
        "r_target, r_leak and psnr_outside with another's speech, the others with their own.\n\n"
    )
    figures = json.loads((tuned.lora / "lora.json").read_text()) if tuned.lora else {}
    common.write_results(
        arguments.name, head + text, {"figures": values, "lora": figures, "before": sides[0], "after": sides[1]}
    )


if __name__ == "__main__":
    main()
