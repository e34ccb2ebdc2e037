"""What is wrong with the clips that a sync network is to learn from, told before the first step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from latentsync.audio.mel import syncnet_mel
from latentsync.audio.windows import syncnet_start
from latentsync.data.arrays import Array
from latentsync.data.crops import ClipCrops
from latentsync.faces.alignment import Aligner, anchor_points, crop_size
from latentsync.faces.lips import OUTER_LIP, face_height, lip_gap
from latentsync.types import InputError

LOOKED_AT = 200  # clips whose pictures are looked at, spread over all
FRAMES_LOOKED_AT = 8  # of each of them
NAMED = 3  # clips that a complaint names

SILENCE = 1e-3  # root mean square of full scale, -60 dB: no speech
STILL = 0.5  # grey levels, mean difference between moments of the lower half; camera noise alone makes more
LIPS_INSIDE = 0.8  # share of the frames whose lips lie in the lower half of the crop, at least
UNSTEADY = 0.03  # of the crop's side, between moments, for the upper half; 0.003 to 0.01 is usual

MOST_LAG = 15  # frames
LEAST_AGREEMENT = 0.1  # mean correlation of lip gap and loudness; clear speech has 0.4 to 0.7
USUAL_LAG = (-3, 2)  # frames by which sound may follow the lips; lips open before they are heard
LEAST_FRAMES = 3 * MOST_LAG  # of a clip, for its lag to be told

REMEDIES = {
    "the same sound as another clip": "look whether files were mixed up, or caches are keyed by file name",
    "the same pictures as another clip": "leave the copies out",
    "no sound": "leave these clips out",
    "pictures that do not move": "leave these clips out",
    "lips outside the lower half of the crop": "prepare the clips again, so that crops and landmarks belong together",
    "crops that jump about": "align the faces: prepare the clips again",
}
HOPELESS = 0.5  # share of the clips with one fault from which nothing can be learned


@dataclass(frozen=True)
class DataReport:
    """What was found."""

    clips: int
    looked_at: int  # clips whose pictures were looked at
    faults: dict[str, list[str]] = field(default_factory=dict)  # a fault, a key of REMEDIES -> names of clips
    agreement: float = float("nan")  # mean correlation of lip gap and loudness at `lag`
    lag: int = 0  # frames by which sound follows the lips, where they agree best

    def complaints(self) -> list[str]:
        """One sentence for every fault: how many clips, which, what to do."""
        told = []
        for fault, names in self.faults.items():
            listed = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
            told.append(f"{len(names)} of {self.clips} clips have {fault} ({listed}): {REMEDIES[fault]}")
        if self.agreement < LEAST_AGREEMENT:
            told.append(
                f"lips and loudness hardly go together in these clips (correlation {self.agreement:.2f}): look whether "
                "sound and pictures belong to each other, and are in step"
            )
        elif not USUAL_LAG[0] <= self.lag <= USUAL_LAG[1]:
            told.append(
                f"the sound follows the lips by {self.lag} frames (correlation {self.agreement:.2f} there): correct "
                "the offset of sound and pictures"
            )
        return told

    def raise_if_hopeless(self) -> None:
        """InputError when a fault has most of the clips, so that the loss could not leave ln 2."""
        for fault, names in self.faults.items():
            looked_at = self.clips if fault in ("the same sound as another clip", "no sound") else self.looked_at
            if len(names) > HOPELESS * looked_at:
                told = f"{len(names)} of {looked_at} have {fault}; {REMEDIES[fault]}"
                raise InputError(f"nothing can be learned from these clips: {told}")


def check_clips(clips: Sequence[ClipCrops]) -> DataReport:
    """Look at all sounds and at the pictures of up to LOOKED_AT clips; nothing is changed."""
    chosen = [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, LOOKED_AT).astype(int))]
    faults = {
        "the same sound as another clip": _doubles(clips, lambda clip: clip.waveform),
        "the same pictures as another clip": _doubles(chosen, lambda clip: clip.crops[:FRAMES_LOOKED_AT]),
        "no sound": [clip.name for clip in clips if _loudness(clip) < SILENCE],
        "pictures that do not move": [clip.name for clip in chosen if _motion(clip) < STILL],
        "lips outside the lower half of the crop": [clip.name for clip in chosen if _lips_inside(clip) < LIPS_INSIDE],
    }
    jumps = {clip.name: _unsteadiness(clip) for clip in chosen}
    if float(np.median(list(jumps.values()))) > UNSTEADY:  # one clip's head may toss; not most clips' heads
        faults["crops that jump about"] = [name for name, jump in jumps.items() if jump > UNSTEADY]
    lag, agreement = lag_of_sound(chosen)
    return DataReport(len(clips), len(chosen), {f: names for f, names in faults.items() if names}, agreement, lag)


def _doubles(clips: Sequence[ClipCrops], part: Callable[[ClipCrops], Array]) -> list[str]:
    """Names of the clips whose part is bit for bit another's."""
    digests = [hashlib.blake2b(np.ascontiguousarray(part(clip)).tobytes()).digest() for clip in clips]
    counts = Counter(digests)
    return [clip.name for clip, digest in zip(clips, digests, strict=True) if counts[digest] > 1]


def _loudness(clip: ClipCrops) -> float:
    return float(np.sqrt(np.square(clip.waveform).mean())) if len(clip.waveform) else 0.0


def _moments(clip: ClipCrops) -> np.ndarray:
    """Frames that are looked at, among those with a face."""
    usable = np.flatnonzero(clip.usable)
    return np.unique(usable[np.linspace(0, len(usable) - 1, FRAMES_LOOKED_AT).astype(int)]) if len(usable) else usable


def _motion(clip: ClipCrops) -> float:
    """Grey levels."""
    lower = clip.crops[_moments(clip)][:, clip.crops.shape[1] // 2 :].astype(np.float32)
    return float(np.abs(np.diff(lower, axis=0)).mean()) if len(lower) > 1 else 0.0


def _lips_inside(clip: ClipCrops) -> float:
    """Share of the frames whose lips, placed by the landmarks, lie in the lower half of the crop."""
    aligner, size = Aligner(clip.crops.shape[1]), np.array(crop_size(clip.crops.shape[1]))
    inside = []
    for landmarks in clip.landmarks[_moments(clip)]:
        matrix = aligner.matrix(anchor_points(landmarks))
        lips = (landmarks[list(OUTER_LIP)] @ matrix[:, :2].T + matrix[:, 2]) / size
        inside.append(bool((lips >= (0, 0.5)).all() and (lips <= 1).all()))
        aligner.reset()
    return float(np.mean(inside)) if inside else 0.0


def _unsteadiness(clip: ClipCrops) -> float:
    """How far the upper half shifts from the first moment to others, as a share of the crop's side (median)."""
    import cv2

    half = clip.crops.shape[1] // 2
    upper = clip.crops[_moments(clip)][:, :half].mean(axis=-1, dtype=np.float32)
    if len(upper) < 2:
        return 0.0
    upper = upper * cv2.createHanningWindow((upper.shape[2], half), cv2.CV_32F)  # phaseCorrelate would do it in place
    moved = np.array([cv2.phaseCorrelate(upper[0], other)[0] for other in upper[1:]])
    shifts = np.hypot(moved[:, 0], moved[:, 1])
    return float(np.median(shifts)) / clip.crops.shape[1]


def lag_of_sound(clips: Sequence[ClipCrops]) -> tuple[int, float]:
    """By how many frames sound follows the lips, and how well lip gap and loudness then go together.

    Each clip's correlations are averaged over the clips by lag; (0, nan) when no clip is long enough.
    """
    curves = [curve for curve in map(_agreement, clips) if curve is not None]
    if not curves:
        return 0, float("nan")
    mean = np.mean(curves, axis=0)
    best = int(mean.argmax())
    return best - MOST_LAG, float(mean[best])


def _agreement(clip: ClipCrops) -> np.ndarray | None:
    """(2 * MOST_LAG + 1,) correlation of lip gap and loudness, by the frames that the sound is later."""
    if len(clip) < LEAST_FRAMES or len(clip.waveform) == 0:
        return None
    gaps = np.array([lip_gap(points) if face_height(points) > 0 else np.nan for points in np.asarray(clip.landmarks)])
    loudness = syncnet_mel(np.asarray(clip.waveform)).mean(dim=0).numpy()
    heard = loudness[np.minimum([syncnet_start(time) for time in clip.times], len(loudness) - 1)]
    curve = []
    for lag in range(-MOST_LAG, MOST_LAG + 1):
        seen, sound = gaps[max(0, -lag) : len(gaps) - max(0, lag)], heard[max(0, lag) : len(heard) - max(0, -lag)]
        known = np.isfinite(seen)
        moving = known.any() and seen[known].std() > 0 and sound[known].std() > 0
        curve.append(np.corrcoef(seen[known], sound[known])[0, 1] if moving else 0.0)
    return np.array(curve)
