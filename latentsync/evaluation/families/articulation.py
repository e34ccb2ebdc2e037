"""Whose speech the mouth shows, how near its lips come to the right ones, and whether they shut on /p b m/."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from latentsync.evaluation.articulation import MIN_FRAMES, r_leak, r_target
from latentsync.evaluation.items import Said
from latentsync.evaluation.landmarks import lip_distance
from latentsync.evaluation.material import Take
from latentsync.evaluation.registry import RIGHT, SOURCE, SPEECH_MOUTH, Figure, Figures, Missing, known
from latentsync.faces.lips import face_height
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS

CLOSED_GAP = 0.01  # of the face's height, up to which the mesh shows closed lips: there it measures 0.0003 to 0.003
CLOSURE_SLACK = 0.04  # seconds around a /p b m/ in which the lips may shut: one frame either way
LOUDNESS_SECONDS = 1 / MODEL_FPS  # that one frame's loudness is taken over
BILABIALS = frozenset("PBM")
SILENT_STARTS = ("PS", "PN", "PT")  # as in psalm, pneumonia, ptarmigan: the p is not said


def measure(take: Take) -> Figures:
    """All figures of the family for one row."""
    return {
        "face_seen": _seen(take),
        **_correlations(take),
        **_movement(take),
        **_distances(take),
        "closed_lips": closed_lips(take),
    }


def _seen(take: Take) -> Figure:
    """Share of the frames with a face; of those in which the source shows one, where it is known."""
    seen = take.material.track(take.video).seen
    if take.source is None:
        return float(seen.mean())
    own = take.material.track(take.source).seen
    frames = min(len(seen), len(own))
    wanted = own[:frames]
    return float(seen[:frames][wanted].mean()) if wanted.any() else Missing("the source shows no face in these frames")


def _correlations(take: Take) -> Figures:
    own, speaker = take.gaps_of(take.source), take.gaps_of(take.speaker)
    right = take.gaps_of(take.right)
    figures: Figures = {"r_right": Missing(f"give {RIGHT}") if right is None else _pearson(take.gaps, right)}
    if speaker is None:
        crossed = Missing(f"give {SPEECH_MOUTH}")
    elif own is None:
        crossed = Missing(f"give {SOURCE}")
    elif take.speaker == take.source:
        crossed = Missing("the source's own audio makes the old mouth the right one: see what is against the right one")
    else:
        few = f"fewer than {MIN_FRAMES} frames show all mouths"
        target, leak = r_target(take.gaps, speaker, own), r_leak(take.gaps, speaker, own)
        return {"r_target": known(target, few), "r_leak": known(leak, few), **figures}
    return {"r_target": crossed, "r_leak": crossed, **figures}


def _pearson(first: np.ndarray, second: np.ndarray) -> Figure:
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < MIN_FRAMES:
        return Missing(f"fewer than {MIN_FRAMES} frames show both mouths")
    if np.ptp(first[both]) == 0 or np.ptp(second[both]) == 0:
        return 0.0
    return float(np.corrcoef(first[both], second[both])[0, 1])


def loudness(waveform: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(len(times),) root mean square of the LOUDNESS_SECONDS around each time in seconds, of (samples,) at 16 kHz."""
    power = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    edges = times[:, None] + np.array([-0.5, 0.5]) * LOUDNESS_SECONDS
    start, stop = np.clip(np.round(edges * AUDIO_SAMPLE_RATE).astype(int), 0, len(waveform)).T
    return np.sqrt((power[stop] - power[start]) / np.maximum(stop - start, 1))


def _movement(take: Take) -> Figures:
    """How far the lip gap spreads while somebody speaks, and whether it is larger where the speech is louder."""
    used = take.spoken() & take.heard() & np.isfinite(take.gaps)
    if used.sum() < MIN_FRAMES:
        missing = Missing(f"nobody speaks in {MIN_FRAMES} frames that show the face")
        return {"r_loudness": missing, "movement": missing}
    gaps, loud = take.gaps[used], loudness(take.waveform, take.times[used])
    ranks = _pearson(rankdata(gaps), rankdata(loud))  # Spearman's: how loud says not how far open
    return {"r_loudness": ranks, "movement": 100 * float(gaps.std())}


def _distances(take: Take) -> Figures:
    if take.right is None:
        return dict.fromkeys(("lmd_px", "lmd"), Missing(f"give {RIGHT}"))
    material = take.material
    shape, wanted = material.info(take.video), material.info(take.right)
    if (shape.width, shape.height) != (wanted.width, wanted.height):
        return dict.fromkeys(("lmd_px", "lmd"), Missing(_sizes((shape, wanted))))
    right = material.track(take.right)
    apart = lip_distance(material.track(take.video), right)
    heights = np.array([face_height(points) for points in right.landmarks[: len(apart)]])
    seen = np.isfinite(apart)
    if not seen.any():
        return dict.fromkeys(("lmd_px", "lmd"), Missing("no frame shows both faces"))
    return {"lmd_px": float(apart[seen].mean()), "lmd": 100 * float((apart / heights)[seen].mean())}


def _sizes(infos: Sequence) -> str:
    first, second = (f"{info.width} x {info.height} px" for info in infos)
    return f"its pictures have {first} and the right ones {second}"


def closed_lips(take: Take) -> Figure:
    """Share of the audio's /p b m/ on which the lips shut; by words, of the words that are spelled with one."""
    said = [sound for sound in take.item.phonemes if sound.text.rstrip("012").upper() in BILABIALS]
    said = said if take.item.phonemes else [word for word in take.item.words if has_bilabial(word.text)]
    if not (take.item.phonemes or take.item.words):
        return Missing("give --phonemes or --words")
    hits = [hit for hit in (_shut(take, sound) for sound in said) if hit is not None]
    return float(np.mean(hits)) if hits else Missing("nothing with /p b m/ is said while the face is seen")


def _shut(take: Take, said: Said) -> bool | None:
    """Whether the lips touch at some frame of a sound; None where no frame shows them."""
    near = (take.times >= said.start - CLOSURE_SLACK) & (take.times <= said.stop + CLOSURE_SLACK)
    gaps = take.gaps[near]
    gaps = gaps[np.isfinite(gaps)]
    return bool(gaps.min() <= CLOSED_GAP) if gaps.size else None


def has_bilabial(word: str) -> bool:
    """Whether an English word is said with the lips shut, by its spelling: p, b or m, but not the silent ones."""
    letters = word.upper().replace("PH", "")
    if letters.endswith("MB"):
        letters = letters[:-1]
    elif letters[:2] in SILENT_STARTS:
        letters = letters[1:]
    return bool(BILABIALS & set(letters))
