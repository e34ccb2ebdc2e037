"""How much more the mouth jumps where two windows of the denoiser meet than elsewhere: 1 where it cannot be told.

The change from frame to frame inside the mouth box, at the frames over which neighbouring windows fade, over the change
at all other frames; of the dub itself, of the dub less its source, and of the source at the same frames (a control:
chance alone moves it from 1). Uses the dubs of benchmarks/articulation.py where they are there.
"""

from __future__ import annotations

from dataclasses import asdict

import common
import numpy as np
from articulation import Pair, cell, describe, dub_pair, grid_pairs
from dubs import Dubber, add_dub_options, dub_options

from latentsync.evaluation.articulation import spread
from latentsync.evaluation.quality import compare, joint_ratio
from latentsync.pipelines.windows import WindowPlanner

EXAMPLE = "python benchmarks/seams.py --pairs 2 --steps 1"


def joints(frames: int) -> np.ndarray:
    """(frames,) bool: frames of one track at 25 fps whose predecessor was made from other windows."""
    planner, found = WindowPlanner(), np.zeros(frames, bool)
    _, *later = planner.plan(frames, ended=True)
    for window in later:
        found[window.fresh : window.fresh + planner.overlap + 1] = True
    return found


def ratios(pair: Pair, dubber: Dubber) -> dict[str, float]:
    """The three ratios of one dub."""
    source = common.clip(pair.video)
    mouths = common.mouths_of(source, pair.seconds)
    made, control = compare(source, dub_pair(pair, dubber), mouths), compare(source, source, mouths)
    across = joints(made.frames)
    return {
        "dub": joint_ratio(made.changes, across),
        "dub less source": joint_ratio(made.edit_changes, across),
        "source (control)": joint_ratio(control.changes[: made.frames], across),
    }


def main() -> None:
    """Dub, measure and write `results/seams.md`."""
    parser = common.parser(__doc__, EXAMPLE)
    add_dub_options(parser)
    parser.add_argument("--pairs", type=int, default=24, help="held-out GRID pairs, at most 38 (default: 24)")
    arguments = parser.parse_args()
    dubber = Dubber(arguments.checkpoint, **dub_options(arguments))
    rows = [ratios(pair, dubber) for pair in grid_pairs(arguments.pairs)]
    found = {name: spread([row[name] for row in rows]) for name in rows[0]}
    text = (
        f"# Joints of windows\n\n{describe(dubber)}\n\n{common.machine()}\n\n"
        "Change across joints over change elsewhere; mean [95 % interval] ± standard deviation over clips.\n\n"
    )
    text += common.table(("of", "clips", "ratio"), [(name, str(s.count), cell(s, 3)) for name, s in found.items()])
    common.write_results("seams", text, {name: asdict(s) for name, s in found.items()})


if __name__ == "__main__":
    main()
