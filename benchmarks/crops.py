"""What `claims.py`, `unisync.py` and `stable_syncnet.py` train on: drawn people, GRID's s1, other recorded people.

Nobody of `articulation.py`'s unseen people is among them. GRID's held-out sentences are, for figures while training.
Run again where it stopped: a clip whose crops are there is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import common
from articulation import UNSEEN
from claims_training import GRID_EVERY
from stable_syncnet import RESOLUTION, TAKES, drawn, prepared

from latentsync.data.preparation.workers import Pool

EXAMPLE = "python benchmarks/crops.py runs/crops --identities 100"


def recorded(every: int) -> list[str]:
    """Stems of the recorded clips: others than those kept apart, `every`-th of s1's sentences, those held out."""
    held = set(common.held_out())
    trained_on = [name for name in common.grid_stems() if name not in held]
    files = common.clips_dir().iterdir()
    others = sorted(path.stem for path in files if path.suffix in common.VIDEO_SUFFIXES and path.stem not in UNSEEN)
    return [*others, *trained_on[every - 1 :: every], *sorted(held)]


def prepare_one(folder: Path, takes: int, who: str | int) -> None:
    """Crops of a recorded clip by its stem, or of a drawn person's first takes by number."""
    videos = [common.clip(who)] if isinstance(who, str) else drawn([who], folder, takes)
    prepared(videos, folder, RESOLUTION)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare what is missing."""
    parser = common.parser(__doc__, EXAMPLE)
    parser.add_argument("folder", type=Path, help="where the crops go")
    parser.add_argument("--identities", type=int, default=100, help="drawn people (default: 100)")
    parser.add_argument("--takes", type=int, default=TAKES, help=f"of 3 s each (default: {TAKES}, the most)")
    parser.add_argument("--grid-every", type=int, default=1, metavar="N", help=f"of GRID s1's sentences one in N "
        f"(default: all; `claims.py` trains on one in {GRID_EVERY} of what is there)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    people = [*recorded(given.grid_every), *range(given.identities)]
    pool = Pool(partial(prepare_one, given.folder, given.takes), given.workers)
    for done, (who, _) in enumerate(pool.answers(people), 1):
        print(f"{done} of {len(people)}: {who}", flush=True)


if __name__ == "__main__":
    main()
