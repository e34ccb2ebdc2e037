"""Whether sound and mouth belong to the same moment: by the sound itself, by lip gaps, and by critics that were trained.

A critic answers for one face seen without a break; of a row with several such spans all windows are taken together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from latentsync.evaluation.items import NOISE, SILENT
from latentsync.evaluation.material import Take
from latentsync.evaluation.registry import SPEECH_MOUTH, Figure, Figures, Missing, known
from latentsync.evaluation.sync.critic import MAX_SHIFT, SyncCritic
from latentsync.evaluation.timing import mouth_offset, offset_between
from latentsync.types import MODEL_FPS, InputError

SYNCNET, STABLE_SYNCNET, UNISYNC = "syncnet", "stable_syncnet", "unisync"
KEYS = {  # of each critic's figures
    SYNCNET: ("syncnet_offset", "lse_c", "lse_d"),
    STABLE_SYNCNET: ("stable_syncnet_offset", "stable_syncnet_accuracy"),
    UNISYNC: ("unisync_offset", "p_sync"),
}
TITLES = {SYNCNET: "SyncNet", STABLE_SYNCNET: "StableSyncNet", UNISYNC: "UniSync"}
SURE = 0.5  # agreement from which a shift of mouths or sounds means something
TOLERANCE = 1  # frames between the found and the true place of the sound


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
        return Missing(f"{take.video.name} has no sound")
    tracks = take.material.sound(take.video), take.waveform
    if not all(track.any() for track in tracks):
        return Missing("silence cannot be placed")
    late = offset_between(*tracks)
    if late.agreement < SURE:
        return Missing(f"{take.video.name} holds other sound")
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


def _ask(name: str, critic: SyncCritic, take: Take, heard: Heard) -> None:
    """Add what one critic says of a row."""
    try:
        scores = _scores(critic, take)
    except InputError as error:
        heard.figures |= dict.fromkeys(KEYS[name], Missing(str(error)))
        return
    mean = scores.mean(axis=0)
    heard.offsets[name] = scores.argmax(axis=1) - MAX_SHIFT
    figures: Figures = {f"{name}_offset": float(mean.argmax() - MAX_SHIFT)}
    if name == SYNCNET:
        figures |= {"lse_c": float(mean.max() - np.median(mean)), "lse_d": float(-mean.max())}
    elif name == UNISYNC:
        figures |= {"p_sync": float(mean[MAX_SHIFT])}
    else:
        figures |= {"stable_syncnet_accuracy": float((np.abs(heard.offsets[name]) <= TOLERANCE).mean())}
    heard.figures |= figures
