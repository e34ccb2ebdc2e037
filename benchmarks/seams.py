"""How much more the mouth jumps where two windows of the denoiser meet than elsewhere: 1 where it cannot be told.

The change from frame to frame inside the mouth box, at the frames over which neighbouring windows fade, over the change
at all other frames; of the dub itself, and of the dub less its source. Speech is not even in time either, so the two
videos without joints that a dub is made from are measured at the same frames as controls, and the last row divides the
dub's ratio by that of the video which speaks the same words. Uses the dubs of benchmarks/articulation.py.
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


def control(name: str, across: np.ndarray) -> float:
    """The ratio of a GRID clip as it is, at the frames where a dub has its joints."""
    path = common.clip(name)
    changes = compare(path, path, common.mouths_of(path)).changes
    return joint_ratio(changes[: len(across)], across[: len(changes)])


def ratios(pair: Pair, dubber: Dubber) -> dict[str, float]:
    """The ratios of one dub and of its controls."""
    source = common.clip(pair.video)
    made = compare(source, dub_pair(pair, dubber), common.mouths_of(source))
    across = joints(made.frames)
    dub, same_words = joint_ratio(made.changes, across), control(pair.speech, across)
    return {
        "dub": dub,
        "dub less source": joint_ratio(made.edit_changes, across),
        "video that was dubbed (control)": control(pair.video, across),
        "video of the same words (control)": same_words,
        "dub over the same words": dub / same_words,
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
