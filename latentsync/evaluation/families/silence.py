"""What the mouth does while nothing is said: a perfect dub keeps it shut and still."""

from __future__ import annotations

import numpy as np

from latentsync.evaluation.material import Take
from latentsync.evaluation.registry import PAUSES, Figures, Missing, all_missing

FEWEST = 25  # silent frames: less than a second of pauses in all says little
OPEN_GAP = 0.02  # of the face's height, from which lips count as apart: twice what the mesh may show of closed ones


def silent_frames(take: Take) -> np.ndarray:
    """(f,) bool: frames inside the audio at which nobody speaks and the face is seen."""
    return ~take.spoken() & take.heard() & np.isfinite(take.gaps)


def measure(take: Take) -> Figures:
    """All figures of the family for one row.

    As LipLeak counts, but of the pauses too where the audio is not silent all through, and by the lip gap over the
    face's height, so that it does not hang on how wide a mouth is.
    """
    quiet = silent_frames(take)
    if quiet.sum() < FEWEST:
        found = f"nobody speaks in {int(quiet.sum())} of the frames that show the face, fewer than {FEWEST}"
        return all_missing("silence", f"{found}: give {PAUSES}")
    steps = np.abs(np.diff(take.gaps))[quiet[1:] & quiet[:-1]]
    moving = 100 * float(steps.mean()) if steps.size else Missing("no two silent frames follow each other")
    return {"silence_open": float((take.gaps[quiet] > OPEN_GAP).mean()), "silence_motion": moving}
