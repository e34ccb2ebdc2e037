"""What the amplitude option does to the mouth: the spread of the lip gap at 0.5, 1.0 and 1.5.

Spread is the standard deviation of the inner-lip gap over a clip, as a share of that of the speech's own video. The
dubs at 1.0 are those of benchmarks/articulation.py where they are there.
"""

from __future__ import annotations

from dataclasses import asdict

import common
import numpy as np
from articulation import Pair, cell, correlations, describe, dub_pair, grid_pairs
from dubs import Dubber, add_dub_options, dub_options

from latentsync.evaluation.articulation import spread
from latentsync.evaluation.mouths import mouth_track

EXAMPLE = "python benchmarks/amplitude.py --pairs 2 --steps 1"
AMPLITUDES = (0.5, 1.0, 1.5)
DEFAULT_AMPLITUDE = 1.0
HEADER = ("amplitude", "clips", "lip gap's spread, share of the speech's own", "mean lip gap, share", "r_target")


def measure(pair: Pair, dubber: Dubber, amplitude: float) -> dict[str, float]:
    """How far the mouth of one dub moves and opens, and whom it follows."""
    more = {} if amplitude == DEFAULT_AMPLITUDE else {"amplitude": amplitude}
    made = mouth_track(dub_pair(pair, dubber, **more))
    wanted = common.mouths_of(common.clip(pair.speech), pair.seconds).gaps_at(made.times)
    return {
        "spread": float(np.nanstd(made.gaps) / np.nanstd(wanted)),
        "mean": float(np.nanmean(made.gaps) / np.nanmean(wanted)),
        "r_target": correlations(pair, made.gaps, made.times)["r_target"],
    }


def main() -> None:
    """Dub, measure and write `results/amplitude.md`."""
    parser = common.parser(__doc__, EXAMPLE)
    add_dub_options(parser)
    parser.add_argument("--pairs", type=int, default=8, help="held-out GRID pairs, at most 38 (default: 8)")
    arguments = parser.parse_args()
    dubber = Dubber(arguments.checkpoint, **dub_options(arguments))
    values, lines = {}, []
    for amplitude in AMPLITUDES:
        rows = [measure(pair, dubber, amplitude) for pair in grid_pairs(arguments.pairs)]
        found = {name: spread([row[name] for row in rows]) for name in rows[0]}
        values[str(amplitude)] = {name: asdict(s) for name, s in found.items()}
        lines.append([amplitude, found["spread"].count, *(cell(s) for s in found.values())])
    head = (
        f"# Amplitude of the mouth\n\n{describe(dubber)}\n\n{common.machine()}\n\n"
        "Mean [95 % interval] ± standard deviation over clips.\n\n"
    )
    common.write_results("amplitude", head + common.table(HEADER, lines), values)


if __name__ == "__main__":
    main()
