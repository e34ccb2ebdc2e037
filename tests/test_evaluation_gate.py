"""The gate lets a good dub through and names what is wrong with a bad one."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path

import evaluation_material as make
import numpy as np
import pytest
from cli_material import write_faceless_clip

from latentsync.config import resource
from latentsync.data.synthetic import Articulation, counterfactual, write_clip
from latentsync.evaluation.gate import Limit, check, read_limits
from latentsync.evaluation.items import Item
from latentsync.evaluation.mouths import mouth_track
from latentsync.evaluation.quality import cut, pixel_box, sharpness
from latentsync.evaluation.registry import BY_KEY, Missing
from latentsync.media.audio import write_wav
from latentsync.types import AUDIO_SAMPLE_RATE, InputError

pytest.importorskip("mediapipe")
LIMITS = read_limits()
LATE = 0.2  # seconds


@pytest.fixture(scope="module")
def triple(tmp_path_factory) -> Path:
    return make.write_triple(tmp_path_factory.mktemp("triple"))


def complaints(triple: Path, dubbed: Path, audio: Path | None = None) -> set[str]:
    """Keys of the figures that the gate complains of."""
    verdict = check(Item(dubbed, audio or triple / "speech.wav", triple / "source.mp4"), LIMITS)
    told = {key for key, limit in LIMITS.items() if limit.complaint(key, verdict.figures[key])}
    assert verdict.passed == (not told) and len(verdict.complaints) == len(told)
    assert (verdict.badness == (0, 0.0)) == verdict.passed
    return told


def test_the_right_answer_passes(triple: Path) -> None:
    assert complaints(triple, triple / "truth.mp4") == set()


def test_a_frozen_mouth_fails(triple: Path, tmp_path: Path) -> None:
    made = counterfactual(make.SEED, seconds=make.SECONDS, size=make.SIZE)
    still = Articulation(*(np.zeros_like(getattr(made.wanted.tracks, field.name)) for field in fields(Articulation)))
    frames = made.speaker.frames(replace(made.wanted, tracks=still), made.motion_seed)
    write_clip(tmp_path / "frozen.mp4", frames, waveform=made.wanted.waveform, crf=make.QUALITY)
    told = complaints(triple, tmp_path / "frozen.mp4")
    assert "movement" in told <= {"movement", "r_loudness"}  # what trembles may fit the loudness as it likes


def test_late_sound_and_no_sound_fail(triple: Path, tmp_path: Path) -> None:
    speech = make.sound(triple / "speech.wav")
    late = np.concatenate([np.zeros(round(LATE * AUDIO_SAMPLE_RATE), np.float32), speech])[: len(speech)]
    assert complaints(triple, make.rewrite(triple / "truth.mp4", tmp_path / "late.mp4", waveform=late)) == {
        "audio_offset_ms"
    }
    assert complaints(triple, make.rewrite(triple / "truth.mp4", tmp_path / "mute.mp4")) == {"audio_offset_ms"}


def around_the_mouth(path: Path) -> np.ndarray:
    """(4,) px, in which the mouth of a video stays."""
    boxes = mouth_track(path).boxes
    return np.array([*np.nanmin(boxes[:, :2], axis=0), *np.nanmax(boxes[:, 2:], axis=0)])


def test_a_blurred_mouth_fails(triple: Path, tmp_path: Path) -> None:
    box = around_the_mouth(triple / "source.mp4")
    speech = make.sound(triple / "speech.wav")
    soft = make.rewrite(
        triple / "truth.mp4", tmp_path / "soft.mp4", lambda images: make.blurred(images, box, 2.0), waveform=speech
    )
    assert "sharpness" in complaints(triple, soft) <= {"sharpness", "flicker", "movement"}


@pytest.mark.parametrize(("sigma", "left"), [(0.5, 0.60), (0.7, 0.37), (1.0, 0.21), (1.5, 0.10)])
def test_a_real_mouth_may_be_blurred_by_less_than_a_pixel(clips_dir: Path, sigma: float, left: float) -> None:
    """Both sides of the limit, and what configs/check.yaml says a blur leaves."""
    clip = clips_dir / "grid_s1" / "bbil3s.mp4"
    picture, size = make.pictures(clip)[0], (360, 288)
    box = pixel_box(mouth_track(clip, seconds=0.1).boxes[0], size)
    (soft,) = make.blurred([picture], np.array([0, 0, *size]), sigma)
    share = sharpness(cut(soft, box)) / sharpness(cut(picture, box))
    assert share == pytest.approx(left, abs=0.02)
    complaint = LIMITS["sharpness"].complaint("sharpness", share)
    assert complaint is None if sigma < 1 else complaint is not None and "under 0.25" in complaint


def test_a_mouth_that_moves_under_silence_fails(triple: Path, tmp_path: Path) -> None:
    silence = np.zeros(round(make.SECONDS * AUDIO_SAMPLE_RATE), np.float32)
    write_wav(tmp_path / "silence.wav", silence, AUDIO_SAMPLE_RATE)
    moving = make.rewrite(triple / "source.mp4", tmp_path / "moving.mp4", waveform=silence)
    told = complaints(triple, moving, tmp_path / "silence.wav")
    assert told and told <= {"silence_open", "silence_motion"}


def test_a_dub_without_a_face_fails_and_says_so(triple: Path, tmp_path: Path) -> None:
    nobody = write_faceless_clip(tmp_path / "nobody.mp4", 20)
    verdict = check(Item(nobody, triple / "speech.wav", triple / "source.mp4"), LIMITS)
    assert not verdict.passed and "shows a face in 0 of 20 frames" in verdict.describe()


def test_limits_are_of_figures_that_there_are(tmp_path: Path) -> None:
    assert set(LIMITS) <= set(BY_KEY)
    assert Limit(low=1.0, high=2.0).excess(4.0) == 1.0 and Limit(low=1.0).excess(0.5) == 0.5
    assert Limit(high=1.0).complaint("sharpness", Missing("give --source")) is None
    (tmp_path / "mine.yaml").write_text("sharpnes: {low: 1.0}\n")
    with pytest.raises(InputError, match="did you mean sharpness"):
        read_limits(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("sharpness: 1.0\n")
    with pytest.raises(InputError, match=r"sharpness is 1\.0; write"):
        read_limits(str(tmp_path / "mine.yaml"))
    shutil.copy(resource("configs/check.yaml"), tmp_path / "check.yaml")
    (tmp_path / "mine.yaml").write_text("base: check.yaml\nsharpness: {low: 0.5}\n")
    assert read_limits(str(tmp_path / "mine.yaml"))["sharpness"] == Limit(low=0.5, high=3.0)
