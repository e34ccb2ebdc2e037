"""The gate lets a good dub through and names what is wrong with a bad one."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from functools import partial
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
from latentsync.evaluation.registry import BY_KEY, Missing
from latentsync.media.audio import write_wav
from latentsync.types import AUDIO_SAMPLE_RATE, InputError

pytest.importorskip("mediapipe")
LIMITS = read_limits()
LATE = 0.2  # seconds
REAL_FRAMES = 14  # of a recorded clip


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


def test_a_real_mouth_may_be_blurred_by_less_than_a_pixel(clips_dir: Path, tmp_path: Path) -> None:
    """Both sides of the limit of sharpness: of a blur of 0.7 px 0.37 is left, of one of a pixel 0.21."""
    sharp = clips_dir / "grid_s1" / "bbil3s.mp4"
    speech = make.sound(sharp)[: round(REAL_FRAMES / make.FPS * AUDIO_SAMPLE_RATE)]
    source = make.rewrite(sharp, tmp_path / "source.mp4", lambda images: images[:REAL_FRAMES], waveform=speech)
    box, limit, found = around_the_mouth(source), LIMITS["sharpness"], {}
    for sigma in (0.7, 1.0):
        change = partial(make.blurred, box=box, sigma=sigma)
        soft = make.rewrite(source, tmp_path / f"{sigma}.mp4", change, waveform=speech)
        found[sigma] = check(Item(soft, source, source), {"sharpness": limit})
    assert found[0.7].passed and not found[1.0].passed and "under 0.25" in found[1.0].describe()
    assert found[0.7].figures["sharpness"] == pytest.approx(0.37, abs=0.06)
    assert found[1.0].figures["sharpness"] == pytest.approx(0.21, abs=0.03)


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
