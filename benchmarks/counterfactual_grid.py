"""The counterfactual on real speech: held-out sentences of GRID's s1, each with the audio of another one.

The audio's own video shows how this speaker's mouth moves when saying it: the right answer for the mouth, but not for
the picture, as the head is held otherwise. So shapes of lips are compared upright, from the base of the nose, in shares
of the face's height. Dubs are named VIDEO--SPEECH.mp4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import common
import numpy as np
from articulation import Pair, grid_pairs
from counterfactual_systems import NOTHING, RANDOM, RIGHT, checkpoint_dubs, copied_mouth, dubs_in, folders_by_name

from latentsync.evaluation.articulation import r_target_and_leak
from latentsync.evaluation.landmarks import LandmarkTrack, landmark_track
from latentsync.evaluation.mouths import MouthTrack
from latentsync.evaluation.quality import compare
from latentsync.evaluation.timing import mouth_offset
from latentsync.faces.lips import lip_shape
from latentsync.media.reader import VideoReader

FIGURES = {  # name: (what the table calls it, digits behind the point)
    "shape_error": ("lip shape off, % of face height", 2),
    "gap_error": ("lip gap off, % of face height", 2),
    "r_target": ("r_target", 2),
    "r_leak": ("r_leak", 2),
    "mouth_offset_ms": ("mouth late ms", 0),
    "psnr_outside": ("PSNR outside dB", 1),
    "sharpness_share": ("sharpness of the source's", 2),
    "flicker": ("change that the source does not have, grey levels", 2),
}
SURE_OFFSET = 0.5  # agreement from which the shift of a mouth against the right one means something


@dataclass(frozen=True)
class Sentences:
    """A pair with what is measured of it once."""

    pair: Pair

    @property
    def video(self) -> Path:
        return common.clip(self.pair.video)

    @property
    def speech(self) -> Path:
        return common.clip(self.pair.speech)

    @cached_property
    def source(self) -> LandmarkTrack:
        return common.landmarks_of(self.video)

    @cached_property
    def wanted(self) -> LandmarkTrack:
        return common.landmarks_of(self.speech)

    @cached_property
    def fps(self) -> float:
        return float(VideoReader(self.video).info.fps)


def shapes(track: LandmarkTrack) -> np.ndarray:
    """(f, 40, 2) lips upright from the base of the nose, in shares of the face's height; nan where none was seen."""
    return np.array(
        [
            lip_shape(points) if seen else np.full((40, 2), np.nan)
            for points, seen in zip(track.landmarks, track.seen, strict=True)
        ]
    )


def score_pair(pair: Sentences, dubbed: Path) -> dict[str, float]:
    """Every figure of one dub; what compares pictures is missing for the speech's own video, which is another take."""
    made = _measured(pair, dubbed)
    gaps, wanted, original = (MouthTrack.of(track).gaps for track in (made, pair.wanted, pair.source))
    frames = min(len(gaps), len(wanted))
    target, leak = r_target_and_leak(gaps, wanted, original)
    late = mouth_offset(gaps, wanted, pair.fps)
    apart = np.linalg.norm(shapes(made)[:frames] - shapes(pair.wanted)[:frames], axis=-1).mean(axis=-1)
    figures = {
        "shape_error": 100 * float(np.nanmean(apart)),
        "gap_error": 100 * float(np.nanmean(np.abs(gaps[:frames] - wanted[:frames]))),
        "r_target": target,
        "r_leak": leak,
        "mouth_offset_ms": round(1000 * late.seconds, 3) if late.agreement >= SURE_OFFSET else float("nan"),
        "frames_missing": float(len(wanted) - frames),
        "frames_without_face": float((~made.seen).sum()),
    }
    return figures | (_pictures(pair, dubbed) if dubbed != pair.speech else {})


def _measured(pair: Sentences, dubbed: Path) -> LandmarkTrack:
    known = {pair.video: "source", pair.speech: "wanted"}
    return getattr(pair, known[dubbed]) if dubbed in known else landmark_track(dubbed)


def _pictures(pair: Sentences, dubbed: Path) -> dict[str, float]:
    found = compare(pair.video, dubbed, MouthTrack.of(pair.source))
    edits = found.edit_changes[np.isfinite(found.edit_changes)]
    return {
        "psnr_outside": found.psnr_outside if np.isfinite(found.psnr_outside) else float("nan"),
        "sharpness_share": found.sharpness_share,
        "flicker": float(edits.mean()) if edits.size else float("nan"),
    }


def folder_of(folder: Path, pairs: list[Sentences]) -> dict[str, dict[str, float]]:
    """Figures of every dub in a folder. InputError where it has none of the pairs'."""
    known = {pair.pair.name: pair for pair in pairs}
    return {name: score_pair(known[name], dub) for name, dub in dubs_in(folder, known).items()}


def systems(count: int, dubs: list[Path], checkpoint: str | None) -> dict[str, dict[str, dict[str, Any]]]:
    """Figures by system and pair: doing nothing, a random mouth, folders of dubs, a checkpoint, the right answer."""
    pairs, folders = [Sentences(pair) for pair in grid_pairs(count)], folders_by_name(dubs, checkpoint)
    rows: dict[str, dict[str, dict[str, Any]]] = {
        NOTHING: {pair.pair.name: score_pair(pair, pair.video) for pair in pairs},
        RANDOM: {
            p.pair.name: score_pair(p, copied_mouth(p.video, p.speech, p.source, f"grid-{p.pair.name}")) for p in pairs
        },
        **{name: folder_of(folder, pairs) for name, folder in folders.items()},
    }
    if checkpoint is not None:
        made = checkpoint_dubs(checkpoint, {pair.pair.name: (pair.video, pair.speech) for pair in pairs})
        rows[Path(checkpoint).name] = {pair.pair.name: score_pair(pair, made[pair.pair.name]) for pair in pairs}
    rows[RIGHT] = {pair.pair.name: score_pair(pair, pair.speech) for pair in pairs}
    return rows
