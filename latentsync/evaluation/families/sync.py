"""Whether sound and mouth belong to the same moment: by the sound itself, by lip gaps, and by trained critics.

A critic answers for one face seen without a break; of a row with several such spans all windows are taken together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from latentsync.evaluation.items import NOISE, SILENT
from latentsync.evaluation.material import Take
from latentsync.evaluation.registry import SPEECH_MOUTH, Figure, Figures, Missing, known
from latentsync.evaluation.sync.critic import SyncCritic, Talk
from latentsync.evaluation.sync.judgement import judge
from latentsync.evaluation.sync.protocols import lse
from latentsync.evaluation.sync.talks import SHORTEST, Film, film_talk
from latentsync.evaluation.timing import compared, mouth_offset, offset_between
from latentsync.faces.tracking import FURTHEST_STEP
from latentsync.types import MODEL_FPS, InputError

SYNCNET, STABLE_SYNCNET, UNISYNC = "syncnet", "stable_syncnet", "unisync"
KEYS = {  # of each critic's figures
    SYNCNET: ("syncnet_offset", "lse_c", "lse_d"),
    STABLE_SYNCNET: ("stable_syncnet_offset", "stable_syncnet_accuracy"),
    UNISYNC: ("unisync_offset", "p_sync"),
}
TITLES = {SYNCNET: "SyncNet", STABLE_SYNCNET: "StableSyncNet", UNISYNC: "UniSync"}
SURE = 0.5  # agreement from which a shift of mouths or sounds means something


@dataclass
class Heard:
    """What a row's critics said: figures, and where each window heard its sound, frames."""

    figures: Figures
    offsets: dict[str, np.ndarray] = field(default_factory=dict)


def measure(take: Take, critics: Mapping[str, SyncCritic]) -> Heard:
    """All figures of the family for one row. critics: by a key of KEYS; those that are not there are missing."""
    heard = Heard({"audio_offset_ms": audio_late(take), "mouth_offset_ms": mouth_late(take)})
    nothing_said = take.item.setting in (SILENT, NOISE)
    for name, keys in KEYS.items():
        if nothing_said:
            heard.figures |= dict.fromkeys(keys, Missing("nobody speaks in the audio"))
        elif name not in critics:
            heard.figures |= dict.fromkeys(keys, Missing(f"give --{name.replace('_', '-')}"))
        else:
            _ask(name, critics[name], take, heard)
    return heard


def audio_late(take: Take) -> Figure:
    """How far the sound in the file lies behind the audio that it was given, ms."""
    if take.video == take.audio:
        return 0.0
    if not take.material.info(take.video).has_audio:
        return Missing(f"{take.video.name} has no sound", fault=True)
    tracks = compared(take.material.sound(take.video)), compared(take.waveform)
    if not all(track.any() for track in tracks):
        return Missing("silence cannot be placed", fault=bool(tracks[1].any()))
    late = offset_between(*tracks)
    if late.agreement < SURE:
        return Missing(f"{take.video.name} holds other sound", fault=True)
    return 1000 * late.seconds


def mouth_late(take: Take) -> Figure:
    """How far the lip gap lies behind that of a mouth which says the same, ms."""
    wanted = take.gaps_of(take.speaker)
    if wanted is None:
        return Missing(f"give {SPEECH_MOUTH}")
    late = mouth_offset(take.gaps, wanted, MODEL_FPS)
    if not late.agreement >= SURE:
        return Missing("the mouth moves unlike the right one at every shift")
    return known(1000 * late.seconds, "nothing moves")


def talks_of(take: Take) -> list[Talk]:
    """Every stretch of a row in which one face is seen without a break, with what the row should say there.

    InputError where none is long enough for a critic.
    """
    landmarks = take.material.track(take.video).landmarks
    spans = [span for span in _spans(landmarks) if span.stop - span.start >= SHORTEST]
    if not spans:
        raise InputError(f"no face is seen for {SHORTEST} frames without a break")
    film, name = Film(lambda: take.material.frames(take.video)), take.video.stem
    return [film_talk(name, film, span.start, landmarks[span.start : span.stop], take.waveform) for span in spans]


def _spans(landmarks: np.ndarray) -> list[range]:
    """Runs of frames with a face; one ends where the next frame's face lies elsewhere, as after a cut.

    landmarks: (f, 478, 2) px, nan without a face
    """
    centres, sizes = landmarks.mean(axis=1), np.ptp(landmarks, axis=1).max(axis=1)
    seen = np.isfinite(sizes)
    moved = np.linalg.norm(np.diff(centres, axis=0), axis=1) > FURTHEST_STEP * sizes[1:]
    breaks = np.flatnonzero(~seen[1:] | ~seen[:-1] | moved) + 1
    edges = [0, *breaks.tolist(), len(seen)]
    return [range(first, last) for first, last in pairwise(edges) if last > first and seen[first]]


def _ask(name: str, critic: SyncCritic, take: Take, heard: Heard) -> None:
    """Add what one critic says of a row."""
    try:
        found = judge(critic, talks_of(take))
    except InputError as error:
        heard.figures |= dict.fromkeys(KEYS[name], Missing(str(error)))
        return
    heard.offsets[name] = found.window_offsets
    heard.figures[f"{name}_offset"] = float(found.offset)
    if name == SYNCNET:
        distances = lse(found.scores)
        heard.figures |= {"lse_c": distances.lse_c, "lse_d": distances.lse_d}
    elif name == UNISYNC:
        heard.figures["p_sync"] = found.in_step
    else:
        assert found.accuracy is not None, name
        heard.figures["stable_syncnet_accuracy"] = found.accuracy
