"""The data check: nothing to say of clips in step, and a word for each fault that is put into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from data_talkers import SCALE, talker

from latentsync.data.crops import ClipCrops
from latentsync.data.pair_checks import check_clips
from latentsync.faces.lips import OUTER_LIP
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS, InputError

SIZE = 32


@pytest.fixture(scope="module")
def clips() -> list[ClipCrops]:
    return [talker(seed, size=SIZE) for seed in range(8)]


def test_clips_in_step_give_no_cause_for_complaint(clips) -> None:
    report = check_clips(clips)
    assert report.complaints() == [] and report.faults == {}
    assert abs(report.lag) <= 1 and report.agreement > 0.5
    report.raise_if_hopeless()


def later(clip: ClipCrops, frames: int) -> ClipCrops:
    return replace(clip, waveform=np.roll(clip.waveform, round(frames / MODEL_FPS * AUDIO_SAMPLE_RATE)))


@pytest.mark.parametrize("frames", [6, -7])
def test_a_common_offset_is_measured(clips, frames: int) -> None:
    report = check_clips([later(clip, frames) for clip in clips])
    assert abs(report.lag - frames) <= 1
    assert f"follows the lips by {report.lag} frames" in report.complaints()[0]


def test_sound_of_other_clips_is_noticed(clips) -> None:
    noise = np.random.default_rng(0)
    strangers = [replace(clip, waveform=talker(int(noise.integers(100, 10**6))).waveform) for clip in clips]
    report = check_clips(strangers)
    assert report.agreement < 0.35  # few and short clips: chance is not far from it


def lips_at_the_brow(clip: ClipCrops) -> ClipCrops:
    landmarks = clip.landmarks.copy()
    landmarks[:, list(OUTER_LIP)] -= (0, 45 * SCALE)
    return replace(clip, landmarks=landmarks)


def jumping(clip: ClipCrops) -> ClipCrops:
    rng = np.random.default_rng(0)
    return replace(clip, crops=np.stack([np.roll(frame, rng.integers(-6, 7, 2), (0, 1)) for frame in clip.crops]))


FAULTS: dict[str, Callable[[ClipCrops, ClipCrops], ClipCrops]] = {
    "the same sound as another clip": lambda clip, first: replace(clip, waveform=first.waveform),
    "the same pictures as another clip": lambda clip, first: replace(clip, crops=first.crops),
    "no sound": lambda clip, first: replace(clip, waveform=clip.waveform * 1e-4),
    "pictures that do not move": lambda clip, first: replace(clip, crops=np.repeat(clip.crops[:1], len(clip), axis=0)),
    "lips outside the lower half of the crop": lambda clip, first: lips_at_the_brow(clip),
    "crops that jump about": lambda clip, first: jumping(clip),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_every_clip_stops_the_run(clips, fault: str) -> None:
    report = check_clips([FAULTS[fault](clip, clips[0]) for clip in clips])
    assert set(report.faults[fault]) == {clip.name for clip in clips}
    with pytest.raises(InputError, match=f"8 of 8 have {fault}"):
        report.raise_if_hopeless()


@pytest.mark.parametrize("fault", list(FAULTS)[:5])
def test_a_fault_in_one_clip_is_told_with_its_name(clips, fault: str) -> None:
    report = check_clips([*clips[:-1], FAULTS[fault](clips[-1], clips[0])])
    assert clips[-1].name in report.faults[fault] and len(report.faults[fault]) <= 2
    assert any(clips[-1].name in complaint and "of 8 clips have" in complaint for complaint in report.complaints())
    report.raise_if_hopeless()
