"""Dubs against their right answer: drawn people who are to say something else, and the true video of their saying it.

`make` writes the set: in each folder source.mp4 (to be dubbed), speech.wav (what it is to say), truth.mp4 (the right
answer) and truth.json (exact tracks). `score` takes folders of dubs named like the set's folders (0000.mp4, ...), of
whatever system. Errors are 0 for the right answer; r_target / r_leak are 1 / 0 for it and 0 / 1 for doing nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import common
import counterfactual_grid
import counterfactual_set
import numpy as np
from articulation import cell, grid_pairs
from counterfactual_systems import NOTHING, RANDOM, RIGHT, checkpoint_dubs, copied_mouth, dubs_in, folders_by_name

from latentsync.evaluation.articulation import Spread, r_target_and_leak, spread
from latentsync.evaluation.landmarks import LandmarkTrack, landmark_track, lip_distance
from latentsync.evaluation.mouths import MouthTrack
from latentsync.evaluation.quality import WHITE, compare
from latentsync.evaluation.timing import audio_offset, mouth_offset
from latentsync.faces.lips import face_height
from latentsync.types import InputError

EXAMPLE = (
    "python benchmarks/counterfactual.py make runs/counterfactual --triples 2\n"
    "  python benchmarks/counterfactual.py score runs/counterfactual --checkpoint embedded\n"
    "  python benchmarks/counterfactual.py grid --pairs 2"
)
FIGURES = {  # name: (what the table calls it, digits behind the point)
    "lip_distance_px": ("lip landmarks off px", 2),
    "lip_distance": ("% of face height", 2),
    "gap_error": ("lip gap off, % of face height", 2),
    "mouth_error": ("mouth off, grey levels", 1),
    "r_target": ("r_target", 2),
    "r_leak": ("r_leak", 2),
    "flicker": ("flicker, grey levels", 2),
    "outside_error": ("outside off, grey levels", 2),
    "mouth_offset_ms": ("mouth late ms", 0),
    "audio_offset_ms": ("audio late ms", 1),
    "sharpness_share": ("sharpness of the truth's", 2),
}
SURE_OFFSET = 0.5  # agreement from which the shift of a mouth or a sound against the right one means something
RATE_TOLERANCE = 0.01  # share by which frame rates may differ and still count as one


@dataclass(frozen=True)
class Known:
    """A triple of the set, with what is measured of it once."""

    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.folder / "truth.json").read_text(encoding="utf-8"))

    @cached_property
    def source(self) -> LandmarkTrack:
        return _remembered(self.folder / "source.mp4")

    @cached_property
    def truth(self) -> LandmarkTrack:
        return _remembered(self.folder / "truth.mp4")

    def touched(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """(h, w) bool: where speech moves frame `index` of `size` (w, h) px."""
        import cv2

        region = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillPoly(region, [np.round(self.facts["truth"]["reach"][index]).astype(np.int32)], (1,))
        return region.astype(bool)


def _remembered(path: Path) -> LandmarkTrack:
    """`landmark_track` of a file of the set, kept beside it."""
    stored = path.with_suffix(".landmarks.npz")
    if not stored.exists():
        with common.made_whole(stored) as partial:
            landmark_track(path).save(partial)
    return LandmarkTrack.load(stored)


def score_clip(known: Known, dubbed: Path) -> dict[str, float]:
    """Every figure of one dub. InputError where it has another size or frame rate than the set."""
    _check_form(known.folder / "truth.mp4", dubbed)
    made = _made(known, dubbed)
    gaps, wanted, original = (MouthTrack.of(track).gaps for track in (made, known.truth, known.source))
    frames = min(len(gaps), len(wanted))
    target, leak = r_target_and_leak(gaps, wanted, original)
    late = mouth_offset(gaps, wanted, known.facts["fps"])
    pictures = compare(known.folder / "truth.mp4", dubbed, MouthTrack.of(known.truth), known.touched)
    apart = lip_distance(made, known.truth)
    height = np.array([face_height(points) for points in known.truth.landmarks[:frames]])
    return {
        "lip_distance_px": _mean(apart),
        "lip_distance": 100 * _mean(apart / height),
        "gap_error": 100 * _mean(np.abs(gaps[:frames] - np.array(known.facts["truth"]["lip_gap"])[:frames])),
        "mouth_error": _levels(pictures.psnr_mouth),
        "r_target": target,
        "r_leak": leak,
        "flicker": _mean(pictures.edit_changes),
        "outside_error": _levels(pictures.psnr_outside),
        "mouth_offset_ms": round(1000 * late.seconds, 3) if late.agreement >= SURE_OFFSET else float("nan"),
        "audio_offset_ms": _audio_late(known, dubbed),
        "sharpness_share": pictures.sharpness_share,
        "frames_missing": len(wanted) - frames,
        "frames_without_face": int((~made.seen).sum()),
    }


def _made(known: Known, dubbed: Path) -> LandmarkTrack:
    """The dub's landmarks; files of the set itself are not measured twice."""
    for path, track in ((known.folder / "source.mp4", "source"), (known.folder / "truth.mp4", "truth")):
        if dubbed == path:
            return getattr(known, track)
    return landmark_track(dubbed)


def _check_form(wanted: Path, dubbed: Path) -> None:
    from latentsync.media.reader import VideoReader

    right, found = (VideoReader(path).info for path in (wanted, dubbed))
    same_size = (right.width, right.height) == (found.width, found.height)
    if not same_size or abs(float(found.fps / right.fps) - 1) > RATE_TOLERANCE:
        forms = [f"{info.width} x {info.height} px at {float(info.fps):g} frames a second" for info in (found, right)]
        raise InputError(f"{dubbed} has {forms[0]} and its source {forms[1]}: write the dub in the source's form")


def _audio_late(known: Known, dubbed: Path) -> float:
    """How far the dub's sound lies behind speech.wav, ms; nan where it has no sound or says something else."""
    from latentsync.media.probe import probe_video

    if not probe_video(dubbed).has_audio:
        return float("nan")
    try:
        late = audio_offset(dubbed, known.folder / "speech.wav")
    except ValueError:  # silent all through: nothing to place
        return float("nan")
    return 1000 * late.seconds if late.agreement >= SURE_OFFSET else float("nan")


def _levels(psnr: float) -> float:
    """Root of the mean squared error in grey levels, from dB."""
    return WHITE * 10 ** (-psnr / 20)


def _mean(values: np.ndarray) -> float:
    """Mean of what is known; nan where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def score_folder(triples: list[Known], folder: Path) -> dict[str, dict[str, float]]:
    """Figures of every dub in a folder, by triple. InputError where it has none of them."""
    known = {triple.folder.name: triple for triple in triples}
    return {name: score_clip(known[name], dub) for name, dub in dubs_in(folder, known).items()}


Rows = dict[str, dict[str, float]]
"""Figures by triple or pair."""


def summary(rows: Rows, figures: dict[str, tuple[str, int]]) -> dict[str, Spread]:
    """Spread of every figure over the triples."""
    return {name: spread([row.get(name, float("nan")) for row in rows.values()]) for name in figures}


def report(systems: dict[str, Rows], count: int, figures: dict[str, tuple[str, int]]) -> str:
    """A table with one row a system; `count` dubs were there to be made."""
    header = ("dubs", "clips", *(title for title, _ in figures.values()), "frames missing", "without a face")
    lines = []
    for label, rows in systems.items():
        found = summary(rows, figures)
        cells = [cell(found[name], digits) for name, (_, digits) in figures.items()]
        missing = [sum(int(row[name]) for row in rows.values()) for name in ("frames_missing", "frames_without_face")]
        lines.append([label, f"{len(rows)} of {count}", *cells, *map(str, missing)])
    return common.table(header, lines)


def score(folder: Path, dubs: list[Path], checkpoint: str | None) -> dict[str, Rows]:
    """Figures by system and triple: doing nothing, a random mouth, folders of dubs, a checkpoint, the right answer."""
    folders = folders_by_name(dubs, checkpoint)
    triples = [Known(path) for path in counterfactual_set.triples_of(folder)]
    sources = {known.folder.name: (known.folder / "source.mp4", known.folder / "speech.wav") for known in triples}
    systems = {
        NOTHING: {known.folder.name: score_clip(known, known.folder / "source.mp4") for known in triples},
        RANDOM: {known.folder.name: score_clip(known, random_mouth(known)) for known in triples},
        **{name: score_folder(triples, path) for name, path in folders.items()},
    }
    if checkpoint is not None:
        version = counterfactual_set.VERSION
        made = checkpoint_dubs(checkpoint, {f"drawn-v{version}-{name}": files for name, files in sources.items()})
        paths = dict(zip(sources, made.values(), strict=True))
        systems[Path(checkpoint).name] = {
            known.folder.name: score_clip(known, paths[known.folder.name]) for known in triples
        }
    systems[RIGHT] = {known.folder.name: score_clip(known, known.folder / "truth.mp4") for known in triples}
    return systems


def random_mouth(known: Known) -> Path:
    """The source with its mouths of another moment."""
    folder = known.folder
    name = f"drawn-v{counterfactual_set.VERSION}-{folder.name}"
    return copied_mouth(folder / "source.mp4", folder / "speech.wav", known.source, name)


def write(name: str, title: str, systems: dict[str, Rows], figures: dict[str, tuple[str, int]]) -> None:
    """Write `results/NAME.md` and `.json`."""
    head = (
        f"# {title}\n\n{common.machine()}\n\n"
        "Mean [95 % interval] ± standard deviation over clips; `counterfactual_card.md` says what each figure is.\n\n"
    )
    values = {
        label: {"mean": {key: asdict(found) for key, found in summary(rows, figures).items()}, "clips": rows}
        for label, rows in systems.items()
    }
    count = max(len(rows) for rows in systems.values())
    common.write_results(name, head + report(systems, count, figures), values)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    actions = parser.add_subparsers(dest="action", required=True)
    make = actions.add_parser("make", help="write the set, or what of it is missing")
    make.add_argument("folder", type=Path)
    make.add_argument(
        "--triples", type=int, default=counterfactual_set.TRIPLES, help="the first so many (default: all)"
    )
    scores = actions.add_parser("score", help="measure folders of dubs, between doing nothing and the right answer")
    scores.add_argument("folder", type=Path, help="where `make` wrote the set")
    grid = actions.add_parser("grid", help="the same on held-out sentences of GRID's speaker s1")
    grid.add_argument("--pairs", type=int, default=20, help="at most 38 (default: 20)")
    grid.add_argument("--list", action="store_true", help="print the names that dubs of the pairs must have")
    for action, name in ((scores, "counterfactual"), (grid, "counterfactual_grid")):
        action.add_argument("dubs", type=Path, nargs="*", help="folders of dubs")
        action.add_argument("--checkpoint", help="dub with this one too, such as embedded")
        action.add_argument("--name", default=name, help=f"of the result files (default: {name})")
    return parser.parse_args()


def main() -> None:
    """Make or score."""
    arguments = parse()
    if arguments.action == "make":
        made = counterfactual_set.make(arguments.folder, arguments.triples)
        print(f"{len(made)} triples in {arguments.folder}")
    elif arguments.action == "score":
        systems = score(arguments.folder, arguments.dubs, arguments.checkpoint)
        write(arguments.name, f"Counterfactual set, version {counterfactual_set.VERSION}", systems, FIGURES)
    elif arguments.list:
        print(*(f"{pair.name}.mp4" for pair in grid_pairs(arguments.pairs)), sep="\n")
    else:
        systems = counterfactual_grid.systems(arguments.pairs, arguments.dubs, arguments.checkpoint)
        write(arguments.name, "Counterfactual on real speech (GRID s1)", systems, counterfactual_grid.FIGURES)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
